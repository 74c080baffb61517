"""A model as a run uses it: what determines it, and the tokenizer, chat format and adapter that go with it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lessexp.artifacts import Artifact
from lessexp.data.chat_format import ChatFormat
from lessexp.models.causal_lm import load_causal_lm, load_tokenizer
from lessexp.models.lora import LoraSettings, attach_lora
from lessexp.models.source import Weights
from lessexp.proxies.compression import read_compression, replace_layers
from lessexp.stages.configuration import Configured
from lessexp.stages.runtime import Runtime


@dataclass(frozen=True)
class Model:
    """All that determines what a language model, or the proxy made of it, computes.

    Attributes:
        weights: by content.
        dtype: of the frozen weights.
        quantization: see `lessexp.models.causal_lm.load_causal_lm`.
        steps: what is done to the loaded model to make a proxy of it, in order.
        factors: the low-rank factors of a proxy, an artifact.
    """

    weights: Weights
    dtype: str
    quantization: str | None
    steps: tuple[Configured, ...] = ()
    factors: Artifact | None = None

    def load(self, runtime: Runtime) -> PreTrainedModel:
        """The frozen model, or its proxy, in evaluation mode whatever a step has put in; only training leaves it."""
        model = load_causal_lm(
            self.weights.folder, dtype=self.dtype, device=runtime.device, quantization=self.quantization
        )
        for step in self.steps:
            model = step.make()(model)
        if self.factors is not None:
            model = replace_layers(model, read_compression(runtime.get(self.factors).folder).factors)
        return model.eval()

    def load_with_adapter(self, lora: LoraSettings, runtime: Runtime, *, seed: int) -> PeftModel:
        """The model with a fresh adapter."""
        return attach_lora(self.load(runtime), lora, seed=seed)


@dataclass(frozen=True)
class ModelInUse:
    """A model with its tokenizer and the adapter it gets.

    Attributes:
        key: where its settings stand, ``model`` or ``selection_model``.
        model: what is loaded.
        lora: shape of its adapters.
        chat_format_settings: make the chat format from the tokenizer.
        runtime: of the stage that is running.
    """

    key: str
    model: Model
    lora: LoraSettings
    chat_format_settings: Configured
    runtime: Callable[[], Runtime] = field(compare=False)

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.model.weights.folder

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        return load_tokenizer(self.model.weights.folder)

    @cached_property
    def chat_format(self) -> ChatFormat:
        """The chat format over this model's tokenizer."""
        return self.chat_format_settings.make(_partial_=True)(tokenizer=self.tokenizer)

    def load(self) -> PreTrainedModel:
        """The frozen model, or its proxy."""
        return self.model.load(self.runtime())

    def load_with_adapter(self, *, seed: int) -> PeftModel:
        """The model with a fresh adapter."""
        return self.model.load_with_adapter(self.lora, self.runtime(), seed=seed)
