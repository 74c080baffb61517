"""What IPSVD knows of a layer: second moments of what goes in and of the gradient of what comes out.

    C_h = E[h hᵀ]    C_δ = E[δ δᵀ]    δ = ∂ℓ/∂(W h), ℓ as in influence

Both are raw moments over tokens (IProX, arXiv:2602.17835), summed batch by batch, so the probes may hold any number of
tokens and nothing is lost to a small sample's span. ℓ is each example's mean over its answer tokens, exactly the loss
whose influence the proxy has to keep: short answers weigh more per token, in C_δ as in influence.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lessexp.data.tokenize import Batch
from lessexp.models.causal_lm import per_example_loss
from lessexp.models.layer_passes import watch_layers
from lessexp.proxies.factors import ProxyError

Positions = Callable[[Batch, Float[Tensor, "batch length out"]], Bool[Tensor, "batch length"]]
"""Which tokens of a batch count, given the gradients of a layer's outputs."""


def with_gradient(batch: Batch, outgoing_grad: Float[Tensor, "batch length out"]) -> Bool[Tensor, "batch length"]:
    """Tokens through which the loss depends on the layer.

    A change of the weight acts through ``δᵀ E h`` alone, so an input where δ is zero cannot matter. In the last layers
    these are the tokens that predict an answer; further down, all that those attend to. Padding is never among them.
    """
    return (outgoing_grad != 0).any(dim=-1)


def every_token(batch: Batch, outgoing_grad: Float[Tensor, "batch length out"]) -> Bool[Tensor, "batch length"]:
    """All tokens but padding."""
    return batch.attention_mask.bool()


@dataclass
class SecondMoments:
    """Of one layer.

    Attributes:
        inputs: C_h.
        output_grads: C_δ.
        n_positions: tokens they are means over.
    """

    inputs: Float[Tensor, "in in"]
    output_grads: Float[Tensor, "out out"]
    n_positions: int


def second_moments(
    model: nn.Module, batches: Sequence[Batch], layers: Mapping[str, nn.Linear], *, positions: Positions
) -> dict[str, SecondMoments]:
    """Second moments of every layer, in float32 (float64 for a float64 model); without dropout.

    They depend on the rows alone, not on how these are batched and padded.

    Raises:
        ProxyError: a layer that no token reaches, or whose moments are not finite; it is named.
    """
    sums = {name: _zeros(layer) for name, layer in layers.items()}

    def add(name: str, _layer: nn.Module, incoming: Tensor, outgoing_grad: Tensor) -> None:
        counts = positions(batch, outgoing_grad)
        total = sums[name]
        x, grad = (part[counts].to(total.inputs.dtype) for part in (incoming, outgoing_grad))
        total.inputs.addmm_(x.T, x)
        total.output_grads.addmm_(grad.T, grad)
        total.n_positions += len(x)

    was_training = model.training
    model.eval()
    try:
        with torch.enable_grad(), watch_layers(model, layers, add):
            for batch in batches:
                per_example_loss(model, batch).sum().backward()
    finally:
        model.train(was_training)
    return {name: _mean(name, total) for name, total in sums.items()}


def _zeros(layer: nn.Linear) -> SecondMoments:
    dtype = torch.promote_types(layer.weight.dtype, torch.float32)
    n_in, n_out = layer.in_features, layer.out_features
    inputs, output_grads = (torch.zeros(n, n, dtype=dtype, device=layer.weight.device) for n in (n_in, n_out))
    return SecondMoments(inputs, output_grads, 0)


def _mean(name: str, total: SecondMoments) -> SecondMoments:
    if total.n_positions == 0:
        raise ProxyError(f"{name}: no token of the probes reaches it; raise proxy.probes.n_rows or check proxy.layers")
    inputs, output_grads = (moment / total.n_positions for moment in (total.inputs, total.output_grads))
    if not (inputs.isfinite().all() and output_grads.isfinite().all()):
        raise ProxyError(f"{name}: its second moments are not finite; set model.dtype=float32")
    return SecondMoments(inputs, output_grads, total.n_positions)


def bytes_of_moments(layer: nn.Linear) -> int:
    """Memory of a layer's second moments in float32."""
    return 4 * (layer.in_features**2 + layer.out_features**2)
