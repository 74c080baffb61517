"""What a model and its adapter take, from the model's configuration alone: no weight is read."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from lessexp.models.causal_lm import floating_point_type
from lessexp.models.lora import LoraSettings, attach_lora, lora_parameters
from lessexp.models.saved_tensors import noting_saved_storages

_TOKENS = 16  # of the row that is passed through; few, for attention is taken to be written out


@dataclass(frozen=True)
class ModelShape:
    """How large things are.

    Attributes:
        n_parameters: of the model without an adapter.
        n_adapter_parameters: of the adapter.
        hidden_size: width of a hidden state.
        vocabulary: tokens that the output layer tells apart.
        saved_bytes_a_token: what autograd keeps between forward and backward, the output layer not counted.
    """

    n_parameters: int
    n_adapter_parameters: int
    hidden_size: int
    vocabulary: int
    saved_bytes_a_token: float

    @property
    def n_adapted_parameters(self) -> int:
        """Of the model with its adapter."""
        return self.n_parameters + self.n_adapter_parameters


def empty_model(folder: Path, *, dtype: str) -> PreTrainedModel:
    """The model in a local folder, of tensors with shapes and no values."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=floating_point_type(dtype), trust_remote_code=False)


@cache
def shape_of(folder: Path, lora: LoraSettings, *, dtype: str) -> ModelShape:
    """The shape of the model in a local folder with an adapter.

    Args:
        folder: see `lessexp.models.source.model_folder`.
        lora: of the adapter.
        dtype: of the frozen weights.

    Raises:
        AdapterMismatchError: the adapter does not fit.
    """
    model = empty_model(folder, dtype=dtype)
    with torch.device("meta"):
        n_parameters = model.num_parameters()
        hidden_size, head = model.config.get_text_config().hidden_size, model.get_output_embeddings()
        adapted = attach_lora(model, lora, seed=0)
        saved = _saved_bytes(adapted, model.base_model)
    n_adapter = sum(parameter.numel() for parameter in lora_parameters(adapted).values())
    return ModelShape(n_parameters, n_adapter, hidden_size, head.weight.shape[0], saved / _TOKENS)


def _saved_bytes(adapted: nn.Module, backbone: nn.Module) -> int:
    with noting_saved_storages(adapted) as saved:
        mask = torch.zeros(1, 1, _TOKENS, _TOKENS)  # ready made: models look into any other for values
        backbone(input_ids=torch.zeros(1, _TOKENS, dtype=torch.long), attention_mask=mask, use_cache=False)
    return sum(storage.nbytes() for storage in saved.values())
