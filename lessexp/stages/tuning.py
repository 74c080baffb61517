"""Final training's two ways: an adapter on the frozen model, or all of its weights."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from lessexp.models.causal_lm import floating_point_type, load_causal_lm
from lessexp.models.lora import LoraSettings, copy_into, read_adapter
from lessexp.models.shape import ModelShape
from lessexp.stages.configuration import ExperimentError
from lessexp.stages.cost import full_training_flops, training_flops
from lessexp.stages.model_in_use import Model
from lessexp.stages.runtime import Runtime
from lessexp.training.trained_part import ADAPTER, ALL_WEIGHTS, TrainedPart

_PRECISIONS = {torch.float32: "32-true", torch.bfloat16: "bf16-mixed"}


@runtime_checkable
class Tuning(Protocol):
    """How the model that is judged comes about."""

    part: TrainedPart
    kind: str
    """Of the artifact."""
    folder_name: str
    """In a run's folder."""

    def check(self, model: Model) -> None:
        """Raise `ExperimentError` for a model that cannot be trained this way."""

    def fresh(self, model: Model, runtime: Runtime, *, seed: int) -> nn.Module:
        """The model before training, as training takes it."""

    def precision(self, model: Model) -> str:
        """Lightning's name of the arithmetic."""

    def flops(self, n_parameters: int, n_tokens: int) -> float:
        """Arithmetic of training a model of so many parameters, what is added to it included, on so many tokens."""

    def n_parameters(self, shape: ModelShape) -> int:
        """Of the model in training."""

    def n_trained(self, shape: ModelShape) -> int:
        """Parameters that an optimizer holds."""

    def complete(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
        """Write what a user of the result needs besides the weights."""

    def tuned(self, model: Model, runtime: Runtime, folder: Path) -> nn.Module:
        """The model after training, from the files of the result."""


class LoraTuning:
    """LoRA, as LESS trains (arXiv:2402.04333, section 4.1).

    Args:
        lora: shape of the adapter.
    """

    part = ADAPTER
    kind = "tuned_adapter"
    folder_name = "adapter"

    def __init__(self, lora: LoraSettings):
        self.lora = lora

    def check(self, model: Model) -> None:
        """Any model takes an adapter."""

    def fresh(self, model: Model, runtime: Runtime, *, seed: int) -> nn.Module:
        """The model with an adapter that changes nothing yet."""
        return model.load_with_adapter(self.lora, runtime, seed=seed)

    def precision(self, model: Model) -> str:
        """The frozen weights' own type and an adapter in float32."""
        return "32-true"

    def flops(self, n_parameters: int, n_tokens: int) -> float:
        """Through frozen weights."""
        return training_flops(n_parameters, n_tokens)

    def n_parameters(self, shape: ModelShape) -> int:
        """The adapter's too."""
        return shape.n_adapted_parameters

    def n_trained(self, shape: ModelShape) -> int:
        """The adapter's alone."""
        return shape.n_adapter_parameters

    def complete(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
        """Nothing: the model is elsewhere."""

    def tuned(self, model: Model, runtime: Runtime, folder: Path) -> nn.Module:
        """The model with the trained adapter."""
        loaded = self.fresh(model, runtime, seed=0)  # whose values are overwritten
        copy_into(loaded, read_adapter(folder))
        return loaded


class FullTuning:
    """Every weight, kept in float32; with ``model.dtype=bfloat16`` layers compute in that (mixed precision)."""

    part = ALL_WEIGHTS
    kind = "tuned_model"
    folder_name = "model"

    def __init__(self, lora: LoraSettings):
        """An adapter's shape counts for nothing here."""

    def check(self, model: Model) -> None:
        """Raise `ExperimentError` for rounded weights and for types that have no mixed precision here."""
        if model.quantization is not None:
            raise ExperimentError(
                f"model.quantization={model.quantization} rounds weights that finetune=full would train; "
                "use finetune=lora or model.quantization=null"
            )
        if floating_point_type(model.dtype) not in _PRECISIONS:
            raise ExperimentError(f"finetune=full needs model.dtype=float32 or bfloat16, got {model.dtype}")

    def fresh(self, model: Model, runtime: Runtime, *, seed: int) -> nn.Module:
        """The model in float32, all of it to be trained."""
        loaded = load_causal_lm(model.weights.folder, dtype="float32", device=runtime.device)
        return loaded.requires_grad_(True)

    def precision(self, model: Model) -> str:
        """Mixed where the model is used in 16 bits."""
        return _PRECISIONS[floating_point_type(model.dtype)]

    def flops(self, n_parameters: int, n_tokens: int) -> float:
        """With the gradients of all weights."""
        return full_training_flops(n_parameters, n_tokens)

    def n_parameters(self, shape: ModelShape) -> int:
        """The model's."""
        return shape.n_parameters

    def n_trained(self, shape: ModelShape) -> int:
        """All of them."""
        return shape.n_parameters

    def complete(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
        """The tokenizer, so that the folder is a model's."""
        tokenizer.save_pretrained(folder)

    def tuned(self, model: Model, runtime: Runtime, folder: Path) -> nn.Module:
        """The trained model, in the type that the model is used in."""
        return load_causal_lm(folder, dtype=model.dtype, device=runtime.device)
