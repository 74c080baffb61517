"""What training changes of a model, the adapter or all weights, and the files that are kept of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from lessexp.errors import MissingFileError
from lessexp.models.lora import lora_parameters, read_adapter, save_adapter
from lessexp.models.tensor_files import read_tensors

_WEIGHTS = "model*.safetensors"


@runtime_checkable
class TrainedPart(Protocol):
    """What an optimizer holds, by the name that it has in files."""

    def parameters(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """By name, in the model's order."""

    def save(self, model: nn.Module, tensors: Mapping[str, Tensor], folder: Path) -> None:
        """Write values for these parameters where the usual libraries look for them."""

    def read(self, folder: Path) -> dict[str, Tensor]:
        """What was saved, by name; raises as `lessexp.models.tensor_files.read_tensors` does."""


class Adapter:
    """LoRA's two matrices of each adapted layer; ``peft`` loads the files."""

    def parameters(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """The adapter's, by public name."""
        return lora_parameters(model)

    def save(self, model: PeftModel, tensors: Mapping[str, Tensor], folder: Path) -> None:
        """Write ``adapter_model.safetensors`` and ``adapter_config.json``."""
        save_adapter(model, folder, tensors)

    def read(self, folder: Path) -> dict[str, Tensor]:
        """The adapter's tensors."""
        return read_adapter(folder)


class AllWeights:
    """Every weight of a model without an adapter; ``transformers`` loads the files."""

    def parameters(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """All of them; weights that two layers share appear once."""
        return dict(model.named_parameters())

    def save(self, model: PreTrainedModel, tensors: Mapping[str, Tensor], folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors``, in several files if they are many."""
        model.save_pretrained(folder, state_dict=dict(tensors))

    def read(self, folder: Path) -> dict[str, Tensor]:
        """The weights of all files.

        Raises:
            MissingFileError: there is none.
        """
        files = sorted(folder.glob(_WEIGHTS))
        if not files:
            raise MissingFileError(f"{folder}: no file {_WEIGHTS} in it")
        return {name: tensor for file in files for name, tensor in read_tensors(file).items()}


ADAPTER = Adapter()
ALL_WEIGHTS = AllWeights()
