"""Linear layers by name: those that get an adapter, or those whose own weights are of interest."""

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lessexp.errors import UserError


class NoSuchLayerError(UserError, ValueError):
    """A name that no linear layer has."""


def layers_named(model: nn.Module, endings: Sequence[str]) -> dict[str, nn.Module]:
    """Modules whose name ends in one of ``endings`` (a whole part of it), by name, in the model's order."""
    return {name: module for name, module in model.named_modules() if name.rsplit(".", 1)[-1] in endings}


def linear_layers(model: PreTrainedModel, endings: Sequence[str]) -> dict[str, nn.Module]:
    """The model's own linear layers of these names, to take gradients of in place of an adapter's.

    Raises:
        NoSuchLayerError: there is none, one is of another kind, or one is the output layer, which sees
            the answer positions of a batch without knowing whose they are.
    """
    layers = layers_named(model, endings)
    if not layers:
        raise NoSuchLayerError(f"no layer's name ends in one of {list(endings)}")
    for name, layer in layers.items():
        if not isinstance(layer, nn.Linear | Conv1D) or layer is model.get_output_embeddings():
            raise NoSuchLayerError(f"{name} is a {type(layer).__name__}; choose linear layers before the output layer")
    return layers
