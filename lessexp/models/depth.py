"""A model's layers are built one by one, so a number of layers that its weights do not hold is refused beforehand."""

from pathlib import Path
from typing import Any

from lessexp.errors import DamagedFileError
from lessexp.files import read_json
from lessexp.models.foreign_code import INDEX, entries
from lessexp.models.tensor_files import tensor_names

_WEIGHTS = "model.safetensors"
# What configurations of transformers call the number of layers that they have built.
_NUMBERS_OF_LAYERS = {
    "num_hidden_layers",
    "num_layers",
    "n_layer",
    "n_layers",
    "layers",
    "depth",
    "encoder_layers",
    "decoder_layers",
    "num_encoder_layers",
    "num_decoder_layers",
}


def refuse_more_layers_than_tensors(folder: Path) -> None:
    """Compare ``config.json`` with the names of the tensors; no tensor is read.

    Raises:
        DamagedFileError: there are more layers than tensors, or a file cannot be read.
    """
    if (folder / _WEIGHTS).is_file():
        n_tensors = len(tensor_names(folder / _WEIGHTS))
    elif (folder / INDEX).is_file():
        n_tensors = len(read_json(folder / INDEX)["weight_map"])
    else:
        return
    path = folder / "config.json"
    for key, value in entries(read_json(path)):
        if key in _NUMBERS_OF_LAYERS and _is_number(value) and value > n_tensors:
            raise DamagedFileError(
                f"{path}: '{key}' is {value}, but the files of weights hold {n_tensors} tensors; copy the model again"
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
