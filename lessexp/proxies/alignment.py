"""What a proxy is fitted to after it was made: the target model's gradients, and its answers (arXiv:2602.17835).

    L    = L_GA + λ L_KL
    L_GA = mean over layers of ½ [d(∂ℓ/∂U, G Vᵀ) + d(∂ℓ/∂V, Uᵀ G)]      d = 1 − cosine, G = ∂ℓ/∂W of the target
    L_KL = τ² · mean over answer tokens of KL(softmax(f_target / τ) ‖ softmax(f_proxy / τ))

G is a constant; U and V are variables wherever they stand, also beside G.
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lessexp.data.tokenize import Batch
from lessexp.models.causal_lm import per_example_loss
from lessexp.models.layer_passes import frozen, watch_layers
from lessexp.proxies.factors import Factors
from lessexp.proxies.low_rank_linear import low_rank_layers

_SMALLEST_NORM = 1e-8  # of a gradient, below which its direction means nothing

FactorGradients = Callable[[nn.Module, Batch], dict[str, Factors]]
"""A proxy and a batch to ∂ℓ/∂U and ∂ℓ/∂V of each low-rank layer, ℓ being the mean loss of the batch's examples."""


def factors_of(model: nn.Module) -> dict[str, Factors]:
    """The variables: the factors of every low-rank layer."""
    return {name: Factors(layer.up.weight, layer.down.weight) for name, layer in low_rank_layers(model).items()}


def second_order(model: nn.Module, batch: Batch) -> dict[str, Factors]:
    """As the paper has it: the gradients themselves can be differentiated. Needs plain (eager) attention."""
    factors = factors_of(model)
    variables = [part for pair in factors.values() for part in (pair.up, pair.down)]
    grads = torch.autograd.grad(per_example_loss(model, batch).mean(), variables, create_graph=True)
    return {name: Factors(*grads[2 * place : 2 * place + 2]) for place, name in enumerate(factors)}


def first_order(model: nn.Module, batch: Batch) -> dict[str, Factors]:
    """The same values from ``∂ℓ/∂U = G' Vᵀ`` and ``∂ℓ/∂V = Uᵀ G'`` with the proxy's own G' as a constant.

    How a layer's inputs and output gradients depend on the factors is left out, so one plain backward pass will do.
    """
    grads = weight_gradients(model, batch, low_rank_layers(model))
    return {
        name: Factors(grads[name] @ pair.down.T, pair.up.T @ grads[name]) for name, pair in factors_of(model).items()
    }


def alignment_flops(
    factor_gradients: FactorGradients, *, n_target: int, n_proxy: int, n_aligned: int, n_factors: int, n_tokens: int
) -> float:
    """Estimated arithmetic of steps over some tokens: 2 for a parameter in each product it is part of.

    The target goes forward and back to its layers' inputs, gives G and, once more forward, its answers: 6 N and 2 a
    parameter of G. The proxy gives its answers, and the factors learn from them: 4 N and 2 a parameter of the factors.
    The second order differentiates a pass of as much, each product to both of its sides if these are variables; the
    first goes forward and back, 4 N, and gives a G of its own.

    Args:
        factor_gradients: of first or second order.
        n_target: parameters of the target.
        n_proxy: parameters of the proxy.
        n_aligned: parameters that the factors stand for, in the target.
        n_factors: parameters of the factors.
        n_tokens: over all steps.
    """
    order = getattr(factor_gradients, "func", factor_gradients)
    of_proxy = 12 * (n_proxy + n_factors) if order is second_order else 8 * n_proxy + 2 * n_factors + 2 * n_aligned
    return float(n_tokens * (6 * n_target + 2 * n_aligned + of_proxy))


def weight_gradients(
    model: nn.Module, batch: Batch, layers: Mapping[str, nn.Module]
) -> dict[str, Float[Tensor, "out in"]]:
    """G: gradients of the examples' mean loss with respect to whole weights, as constants."""
    found: dict[str, Tensor] = {}

    def add(name: str, _layer: nn.Module, incoming: Tensor, outgoing_grad: Tensor) -> None:
        dtype = torch.promote_types(incoming.dtype, torch.float32)
        found[name] = torch.einsum("bto,bti->oi", outgoing_grad.to(dtype), incoming.to(dtype))

    with torch.enable_grad(), frozen(model), watch_layers(model, layers, add):
        per_example_loss(model, batch).mean().backward()
    return found


def _cosine_distance(first: Tensor, other: Tensor) -> Float[Tensor, ""]:
    return 1 - nn.functional.cosine_similarity(first.flatten(), other.flatten(), dim=0, eps=_SMALLEST_NORM)


def alignment_loss(
    factors: Mapping[str, Factors],
    factor_grads: Mapping[str, Factors],
    target_grads: Mapping[str, Float[Tensor, "_out _in"]],
) -> Float[Tensor, ""]:
    """L_GA: 0 where the gradients of all factors point where the target's, projected, do; at most 2.

    Args:
        factors: U and V.
        factor_grads: ∂ℓ/∂U and ∂ℓ/∂V on the proxy.
        target_grads: G of every low-rank layer, by the same names.
    """
    distances = []
    for name, pair in factors.items():
        grad = target_grads[name].detach().to(pair.up.dtype)
        distances.append(_cosine_distance(factor_grads[name].up, grad @ pair.down.T))
        distances.append(_cosine_distance(factor_grads[name].down, pair.up.T @ grad))
    return torch.stack(distances).mean()


def anchor_loss(
    target_logits: Float[Tensor, "n_answer_tokens vocab"],
    proxy_logits: Float[Tensor, "n_answer_tokens vocab"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """L_KL, which keeps a proxy answering as the target does while its gradients are turned.

    Args:
        target_logits: that predict answer tokens, see `lessexp.models.causal_lm.answer_logits`; a constant.
        proxy_logits: of the same tokens.
        temperature: τ, flattens both; τ² keeps the gradient's size.
    """
    dtype = torch.promote_types(proxy_logits.dtype, torch.float32)
    target, proxy = (
        nn.functional.log_softmax(logits.to(dtype) / temperature, dim=-1)
        for logits in (target_logits.detach(), proxy_logits)
    )
    return temperature**2 * (target.exp() * (target - proxy)).sum(dim=-1).mean()
