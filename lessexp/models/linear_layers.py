"""Linear layers by name: those that get an adapter, or those whose own weights are of interest."""

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lessexp.errors import UserError


class NoSuchLayerError(UserError, ValueError):
    """A name that no linear layer has."""


def layers_named(model: nn.Module, endings: Sequence[str]) -> dict[str, nn.Module]:
    """Modules whose name ends in one of ``endings`` (whole parts of it), by name, in the model's order."""
    return {name: module for name, module in model.named_modules() if any(_ends_in(name, one) for one in endings)}


def linear_layers(model: PreTrainedModel, endings: Sequence[str], *, key: str) -> dict[str, nn.Module]:
    """The model's own linear layers of these names, which an adapter or gradients can be had of.

    Args:
        model: is searched.
        endings: of the layers' names; some of them may be another model's.
        key: where they stand in the settings.

    Raises:
        NoSuchLayerError: there is none, one is of another kind, or one is the output layer, which sees
            the answer positions of a batch without knowing whose they are.
    """
    layers = layers_named(model, endings)
    if not layers:
        refuse_unknown_layers([model], endings, key=key)
    for name, layer in layers.items():
        if not _is_linear(layer) or layer is model.get_output_embeddings():
            raise NoSuchLayerError(
                f"{key}: {name} is of type {type(layer).__name__}; choose linear layers before the output layer"
            )
    return layers


def refuse_unknown_layers(models: Sequence[nn.Module], endings: Sequence[str], *, key: str) -> None:
    """Check that every name is one of a layer.

    Args:
        models: at least one of them must have a layer of the name.
        endings: of the layers' names.
        key: where they stand in the settings.

    Raises:
        NoSuchLayerError: naming the layers that there are.
    """
    for ending in endings:
        if not any(layers_named(model, [ending]) for model in models):
            inside = (
                name.rpartition(".") for model in models for name, one in model.named_modules() if _is_linear(one)
            )
            known = dict.fromkeys(last for above, _, last in inside if above)  # the output layer stands by itself
            raise NoSuchLayerError(f"{key}: no layer's name ends in '{ending}'; choose from {', '.join(known)}")


def _ends_in(name: str, ending: str) -> bool:
    return f".{name}".endswith(f".{ending}")


def _is_linear(layer: nn.Module) -> bool:
    """Whether it is a linear layer, GPT-2's with its transposed weight, or one of ours that acts as one."""
    return isinstance(layer, nn.Linear | Conv1D) or hasattr(layer, "in_features")
