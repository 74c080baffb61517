"""Gradients of single examples from one batched forward and backward.

For a linear layer ``h = W x`` the gradient of example b is ``Σ_t δ_bt x_btᵀ``: one batched product of
what went in and what came back (Goodfellow, arXiv:1510.01799). Hooks on the layers of interest form it
there and then, so autograd computes no parameter gradient, and only one layer's block exists at a time.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from lessexp.data.tokenize import Batch
from lessexp.gradients.projection import Projector
from lessexp.models.causal_lm import per_example_loss
from lessexp.models.layer_passes import watch_layers
from lessexp.models.lora import lora_layers

Layers = Mapping[str, nn.Module]
"""Linear layers by the public name of their parameters, less ``.weight``."""

GradientSink = Callable[[str, Float[Tensor, "batch *param"]], None]
"""Takes a parameter's public name and its block of per-example gradients."""


@runtime_checkable
class Direction(Protocol):
    """What becomes of a parameter's gradients before they are projected: an elementwise map."""

    def __call__(self, name: str, start: int, tile: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
        """Directions of the parameter's coordinates from ``start`` on, one row an example; may overwrite ``tile``."""


def _weight_gradient(
    layer: nn.Module, incoming: Float[Tensor, "batch length in"], outgoing_grad: Float[Tensor, "batch length out"]
) -> Float[Tensor, "batch rows columns"]:
    """Each example's gradient, in the orientation in which the layer keeps its weight."""
    if isinstance(layer, Conv1D):  # GPT-2's: transposed
        return incoming.float().transpose(1, 2) @ outgoing_grad.float()
    return outgoing_grad.float().transpose(1, 2) @ incoming.float()


@contextlib.contextmanager
def per_example_hooks(model: nn.Module, layers: Layers, sink: GradientSink) -> Iterator[None]:
    """While active, a backward pass hands the block of every parameter of ``layers`` to ``sink``, last layer first.

    The loss must be a sum over examples, and no layer may mix them.

    Raises:
        GradientShapeError: in the forward pass, a layer that mixes them.
    """

    def hand_over(name: str, layer: nn.Module, incoming: Tensor, outgoing_grad: Tensor) -> None:
        sink(f"{name}.weight", _weight_gradient(layer, incoming, outgoing_grad))
        if layer.bias is not None:
            sink(f"{name}.bias", outgoing_grad.float().sum(dim=1))

    with watch_layers(model, layers, hand_over):
        yield


def per_example_gradients(
    model: nn.Module, batch: Batch, *, layers: Layers | None = None
) -> dict[str, Float[Tensor, "batch *param"]]:
    """∇ℓ of each example for every parameter, by public name in the model's order.

    Args:
        model: evaluated without dropout; its mode is left as it was.
        batch: padded rows.
        layers: whose parameters, by name; the adapter's layers by default.
    """
    layers = lora_layers(model) if layers is None else layers
    blocks: dict[str, Tensor] = {}
    _backward(model, batch, layers, blocks.__setitem__)
    names = (f"{name}.{kind}" for name in layers for kind in ("weight", "bias"))
    return {name: blocks[name] for name in names if name in blocks}


def _backward(model: nn.Module, batch: Batch, layers: Layers, sink: GradientSink) -> None:
    was_training = model.training
    model.eval()
    try:
        with torch.enable_grad(), per_example_hooks(model, layers, sink):
            per_example_loss(model, batch).sum().backward()
    finally:
        model.train(was_training)


class GradientFeatures:
    """Projected directions of each example: what the datastore holds.

    Args:
        model: with the checkpoint's adapter.
        projector: sums the projections of all parameters.
        direction: Γ for pool rows, the plain gradient for target rows.
        layers: whose parameters, by name; the adapter's layers by default.
    """

    _cpu_tile = 1 << 14  # stays in a core's cache from gradient to projection; elsewhere a tile is a whole parameter

    def __init__(self, model: nn.Module, projector: Projector, direction: Direction, *, layers: Layers | None = None):
        self.model = model
        self.layers = lora_layers(model) if layers is None else layers
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

        _backward(self.model, batch, self.layers, add)
        # Γ of no gradient is the momentum, and the sign of an infinite one is finite: judge the gradient itself.
        features = torch.where((largest == 0)[:, None], 0.0, features)
        return torch.where(largest.isfinite()[:, None], features, torch.nan)
