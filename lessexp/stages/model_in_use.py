"""A model as a run uses it: with its tokenizer, its chat format, its adapter and what makes a smaller one of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from peft import PeftModel
from transformers import PreTrainedModel

from lessexp.data.chat_format import ChatFormat
from lessexp.models.causal_lm import load_causal_lm, load_tokenizer
from lessexp.models.lora import LoraSettings, attach_lora
from lessexp.models.source import folder_fingerprint

ModelStep = Callable[[PreTrainedModel], PreTrainedModel]
"""Turns a loaded model into a smaller one."""


@dataclass(frozen=True)
class ModelInUse:
    """A model with its tokenizer and the adapter it gets.

    Attributes:
        cfg: its configuration node.
        folder: where its files are.
        lora: shape of its adapters.
        device: where it runs.
        chat_format_factory: makes the chat format from the tokenizer.
        proxy_steps: turn the loaded model into its smaller stand-in, one after the other.
    """

    cfg: DictConfig
    folder: Path
    lora: LoraSettings
    device: str
    chat_format_factory: Callable[..., ChatFormat]
    proxy_steps: Sequence[ModelStep] = ()

    @cached_property
    def tokenizer(self):
        """The model's tokenizer."""
        return load_tokenizer(self.folder)

    @cached_property
    def chat_format(self) -> ChatFormat:
        """The chat format over this model's tokenizer."""
        return self.chat_format_factory(tokenizer=self.tokenizer)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What determines the model's behaviour."""
        return {
            "fingerprint": folder_fingerprint(self.folder),
            "dtype": self.cfg.dtype,
            "quantization": self.cfg.quantization,
        }

    def load(self) -> PreTrainedModel:
        """The frozen model, or its proxy."""
        model = load_causal_lm(
            self.folder, dtype=self.cfg.dtype, device=self.device, quantization=self.cfg.quantization
        )
        for step in self.proxy_steps:
            model = step(model)
        return model

    def load_with_adapter(self, *, seed: int) -> PeftModel:
        """The model with a fresh adapter."""
        return attach_lora(self.load(), self.lora, seed=seed)
