"""Gradients of single examples from one batched forward and backward.

For a linear layer ``h = W x`` the gradient of example b is ``Σ_t δ_bt x_btᵀ``: one batched product of
what went in and what came back (Goodfellow, arXiv:1510.01799). Hooks on the adapter's layers form it
there and then, so autograd computes no parameter gradient, and only one layer's block exists at a time.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lessexp.data.tokenize import Batch
from lessexp.gradients.projection import Projector
from lessexp.models.causal_lm import per_example_loss
from lessexp.models.lora import lora_pairs, lora_parameters

GradientSink = Callable[[str, Float[Tensor, "batch out in"]], None]
"""Takes a parameter's public name and its block of per-example gradients."""


@runtime_checkable
class Direction(Protocol):
    """What becomes of a parameter's gradients before they are projected: an elementwise map."""

    def __call__(self, name: str, start: int, tile: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
        """Directions of the parameter's coordinates from ``start`` on, one row an example; may overwrite ``tile``."""


def _outer_products(
    outgoing_grad: Float[Tensor, "batch length out"], incoming: Float[Tensor, "batch length in"]
) -> Float[Tensor, "batch out in"]:
    return outgoing_grad.transpose(1, 2) @ incoming


@contextlib.contextmanager
def _frozen(parameters: dict[str, nn.Parameter]) -> Iterator[None]:
    for parameter in parameters.values():
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters.values():
            parameter.requires_grad_(True)


@contextlib.contextmanager
def per_example_hooks(model: nn.Module, sink: GradientSink) -> Iterator[None]:
    """While active, a backward pass hands every adapter parameter's block to ``sink``, last layer first.

    The loss must be a sum over examples, and no layer may mix them.
    """
    with _frozen(lora_parameters(model)), contextlib.ExitStack() as handles:
        for pair in lora_pairs(model):
            for name, layer in ((pair.a_name, pair.a), (pair.b_name, pair.b)):
                handles.callback(layer.register_forward_hook(partial(_watch_output, name, sink)).remove)
        yield


def _watch_output(
    name: str, sink: GradientSink, _layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor
) -> Tensor:
    """Forward hook: once the layer's output has its gradient, the parameter's block goes to ``sink``."""
    # Below the first adapter nothing needs a gradient: the graph starts at its output.
    if not output.requires_grad:
        output = output.detach().requires_grad_()
    incoming = inputs[0].detach()
    output.register_hook(lambda outgoing_grad: sink(name, _outer_products(outgoing_grad, incoming)))
    return output


def per_example_gradients(model: nn.Module, batch: Batch) -> dict[str, Float[Tensor, "batch *param"]]:
    """∇ℓ of each example for every adapter parameter, by public name in the model's order.

    Args:
        model: with an adapter; evaluated without dropout, its mode is left as it was.
        batch: padded rows.
    """
    blocks: dict[str, Tensor] = {}
    _backward(model, batch, blocks.__setitem__)
    return {name: blocks[name] for name in lora_parameters(model)}


def _backward(model: nn.Module, batch: Batch, sink: GradientSink) -> None:
    was_training = model.training
    model.eval()
    with torch.enable_grad(), per_example_hooks(model, sink):
        per_example_loss(model, batch).sum().backward()
    model.train(was_training)


class GradientFeatures:
    """Projected directions of each example: what the datastore holds.

    Args:
        model: with the checkpoint's adapter.
        projector: sums the projections of all parameters.
        direction: Γ for pool rows, the plain gradient for target rows.
    """

    _cpu_tile = 1 << 14  # stays in a core's cache from gradient to projection; elsewhere a tile is a whole parameter

    def __init__(self, model: nn.Module, projector: Projector, direction: Direction):
        self.model = model
        self.projector = projector
        self.direction = direction

    def compute(self, batch: Batch) -> Float[Tensor, "batch proj_dim"]:
        """Features of a batch, in float32; rows do not depend on what else is in the batch.

        A row whose gradient is zero is zero, and one whose gradient is not finite is NaN, whatever the direction.
        """
        device = batch.input_ids.device
        features = torch.zeros(len(batch.example_ids), self.projector.proj_dim, device=device)
        largest = torch.zeros(len(batch.example_ids), device=device)

        def add(name: str, grad: Tensor) -> None:
            flat = grad.flatten(1)
            torch.maximum(largest, flat.abs().amax(dim=1), out=largest)
            width = self._cpu_tile if device.type == "cpu" else flat.shape[1]
            for start in range(0, flat.shape[1], width):
                tile = flat[:, start : start + width]
                self.projector.add(features, name, start, self.direction(name, start, tile))

        _backward(self.model, batch, add)
        # Γ of no gradient is the momentum, and the sign of an infinite one is finite: judge the gradient itself.
        features = torch.where((largest == 0)[:, None], 0.0, features)
        return torch.where(largest.isfinite()[:, None], features, torch.nan)
