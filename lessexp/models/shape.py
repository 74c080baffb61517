"""What a model and its adapter take, from the model's configuration alone: no weight is read."""

import inspect
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from lessexp.models.causal_lm import errors_of_models, load_causal_lm
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
        n_embeddings: token ids that the model can read.
        trained_positions: longest row that the model was made for; ``None`` if it does not say.
        has_position_table: whether positions are looked up, so that a longer row cannot be read at all.
        saved_bytes_a_token: what autograd keeps between forward and backward, the output layer not counted.
    """

    n_parameters: int
    n_adapter_parameters: int
    hidden_size: int
    vocabulary: int
    n_embeddings: int
    trained_positions: int | None
    has_position_table: bool
    saved_bytes_a_token: float

    @property
    def n_adapted_parameters(self) -> int:
        """Of the model with its adapter."""
        return self.n_parameters + self.n_adapter_parameters


def empty_model(folder: Path, *, dtype: str) -> PreTrainedModel:
    """The model in a local folder, of tensors with shapes and no values; raises as `load_causal_lm` does."""
    return load_causal_lm(folder, dtype=dtype, device="meta")


@cache
def shape_of(folder: Path, lora: LoraSettings, *, dtype: str) -> ModelShape:
    """The shape of the model in a local folder with an adapter.

    Args:
        folder: see `lessexp.models.source.model_folder`.
        lora: of the adapter.
        dtype: of the frozen weights.

    Raises:
        ModelUnavailableError: the model cannot be loaded.
        NoSuchLayerError: the adapter does not fit.
    """
    model = empty_model(folder, dtype=dtype)
    with torch.device("meta"):
        n_parameters = model.num_parameters()
        config, head = model.config.get_text_config(), model.get_output_embeddings()
        n_embeddings = model.get_input_embeddings().weight.shape[0]
        positions = getattr(config, "max_position_embeddings", None)
        has_table = positions is not None and _has_position_table(model, positions)
        adapted = attach_lora(model, lora, seed=0)
        with errors_of_models(folder, f"tried out as {dtype}"):
            saved = _saved_bytes(adapted, model.base_model)
    n_adapter = sum(parameter.numel() for parameter in lora_parameters(adapted).values())
    return ModelShape(
        n_parameters=n_parameters,
        n_adapter_parameters=n_adapter,
        hidden_size=config.hidden_size,
        vocabulary=head.weight.shape[0],
        n_embeddings=n_embeddings,
        trained_positions=positions,
        has_position_table=has_table,
        saved_bytes_a_token=saved / _TOKENS,
    )


def _has_position_table(model: PreTrainedModel, n_positions: int) -> bool:
    """Whether positions are looked up, be they learned (GPT-2, OPT) or computed beforehand (GPT-J)."""
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module is not model.get_input_embeddings():
            # OPT keeps a few rows before the first position.
            if module.num_embeddings == n_positions + getattr(module, "offset", 0):
                return True
        elif any(
            table.dim() == 2 and table.shape[0] == n_positions
            for table in module._buffers.values()
            if table is not None
        ):
            return True
    return False


def _saved_bytes(adapted: nn.Module, backbone: nn.Module) -> int:
    with noting_saved_storages(adapted) as saved:
        given = {}
        if "position_ids" in inspect.signature(backbone.forward).parameters:  # Bloom and MPT have none, and make masks
            mask = torch.zeros(1, 1, _TOKENS, _TOKENS)  # ready made: models look into any other for values
            given = {"attention_mask": mask, "position_ids": torch.arange(_TOKENS)[None]}
        backbone(input_ids=torch.zeros(1, _TOKENS, dtype=torch.long), use_cache=False, **given)
    return sum(storage.nbytes() for storage in saved.values())
