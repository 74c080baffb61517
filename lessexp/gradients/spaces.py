"""Gradients with respect to what: the adapter, whole weights, or the factors of a proxy.

A space gives the layers whose gradients are taken. Names are those of the model without an adapter, so that model
and proxy share them where they share the layers.
"""

from collections.abc import Callable, Sequence

from torch import nn

from lessexp.errors import UserError
from lessexp.gradients.per_example import Layers
from lessexp.models.linear_layers import layers_named
from lessexp.models.lora import lora_layers
from lessexp.proxies.low_rank_linear import low_rank_layers

Space = Callable[[nn.Module], Layers]
"""A model with an adapter, to the layers whose gradients are taken."""

_PREFIX, _WRAPPED = "base_model.model.", ".base_layer"  # of peft's


class EmptySpaceError(UserError, ValueError):
    """A model without the layers that a space is made of."""


def adapter(model: nn.Module) -> Layers:
    """The adapter's two matrices of each layer: LESS. The only space in which a warm-up has Adam moments."""
    return lora_layers(model)


def equivalent(model: nn.Module, *, layers: Sequence[str]) -> Layers:
    """The weights themselves, those of a proxy multiplied out: ``∂ℓ/∂(U V) = Σ_t δ_t h_tᵀ``.

    It depends on what the proxy computes and not on how its weights are split into factors. Biases count too.

    Args:
        model: with or without an adapter.
        layers: ends of the layers' names.

    Raises:
        EmptySpaceError: no layer has such a name.
    """
    found = {
        name.removeprefix(_PREFIX): getattr(module, "base_layer", module)
        for name, module in layers_named(model, layers).items()
    }
    if not found:
        raise EmptySpaceError(f"no layer's name ends in one of space.layers={list(layers)}")
    return found


def factor(model: nn.Module) -> Layers:
    """The factors U and V of each low-rank layer (IProX, arXiv:2602.17835).

    Even at full rank this is another inner product than `equivalent`, and one that other factors of the same weights
    change.

    Raises:
        EmptySpaceError: no layer is low-rank.
    """
    found = {}
    for name, layer in low_rank_layers(model).items():
        public = name.removeprefix(_PREFIX).removesuffix(_WRAPPED)
        found |= {f"{public}.down": layer.down, f"{public}.up": layer.up}
    if not found:
        raise EmptySpaceError("space=factor needs a proxy with low-rank layers; set proxy=ipsvd, activation_svd or svd")
    return found
