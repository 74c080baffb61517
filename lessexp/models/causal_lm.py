"""The frozen language model: loading it, and the loss of each example on its answer tokens."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from lessexp.data.tokenize import IGNORED_LABEL, Batch
from lessexp.models.quantization import prepare_for_gradients, quantization_config, refuse_blocks_over_rows
from lessexp.models.source import ModelUnavailableError


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The fast tokenizer of a model folder; it pads with its end token if it has none for padding.

    Raises:
        ModelUnavailableError: the folder holds no tokenizer, a damaged one, or one that cannot report character
            offsets.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    # Missing and damaged arrive as classes of three libraries; the tokenizers library raises plain Exception.
    except Exception as error:
        raise ModelUnavailableError(
            f"{folder} holds no tokenizer that can be loaded ({_brief(error)}); copy the model's there"
        ) from error
    if not tokenizer.is_fast:
        raise ModelUnavailableError(
            f"{folder}: labels are found by character offsets, which needs a fast tokenizer (tokenizer.json)"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _brief(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first:.200}"


def floating_point_type(name: str) -> torch.dtype:
    """The torch type of that name.

    Raises:
        ModelUnavailableError: there is none.
    """
    dtype = getattr(torch, name, None) if isinstance(name, str) else None
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ModelUnavailableError(f"model.dtype must be float32, bfloat16 or float16, got {name}")
    return dtype


def load_causal_lm(folder: Path, *, dtype: str, device: str, quantization: str | None = None) -> PreTrainedModel:
    """The model of a local folder, from safetensors alone, in evaluation mode.

    Args:
        folder: see `lessexp.models.source.model_folder`.
        dtype: of the frozen weights, e.g. ``bfloat16``.
        device: e.g. ``cpu`` or ``cuda``.
        quantization: rounds the linear layers, e.g. ``nf4``; see `lessexp.models.quantization`.

    Raises:
        ModelUnavailableError: there is no floating-point type or no quantisation of that name, what the latter
            needs is not installed, or a file of the folder is missing or damaged.
    """
    floating_point = floating_point_type(dtype)
    quantized = quantization_config(quantization, dtype=floating_point)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=floating_point,
            quantization_config=quantized,
            device_map={"": device},  # rounded weights cannot be moved afterwards
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    except (torch.OutOfMemoryError, MemoryError):
        raise
    # What a damaged config.json or file of weights leads to is any class of four libraries.
    except Exception as error:
        raise ModelUnavailableError(
            f"{folder}: its model cannot be loaded ({_brief(error)}); copy it again, or choose another"
        ) from error
    refuse_blocks_over_rows(model)
    prepare_for_gradients(model)
    return model.eval()


@contextlib.contextmanager
def _only_positions(head: nn.Module, wanted: Shaped[Tensor, "batch length"]) -> Iterator[None]:
    """Let the output layer see the hidden states at ``wanted`` positions only."""

    def gather(_head: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (inputs[0][wanted].unsqueeze(0),)

    handle = head.register_forward_pre_hook(gather)
    try:
        yield
    finally:
        handle.remove()


def answer_logits(model: nn.Module, batch: Batch) -> Float[Tensor, "n_answer_tokens vocab"]:
    """Logits that predict the answer tokens, row after row.

    The vocabulary is by far the widest layer; computing it where no label is would cost a fifth of
    a small model's time. The model's own head runs, so its soft caps and scales stay in force.
    """
    predicts_label = torch.zeros_like(batch.labels, dtype=torch.bool)
    predicts_label[:, :-1] = batch.labels[:, 1:] != IGNORED_LABEL
    with _only_positions(model.get_output_embeddings(), predicts_label):
        output = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    return output.logits[0]


def per_example_loss(model: nn.Module, batch: Batch) -> Float[Tensor, " batch"]:
    """ℓ of LESS: each example's mean cross-entropy over its answer tokens, in float32 or finer [nats per token]."""
    labels = batch.labels[:, 1:]
    has_label = labels != IGNORED_LABEL
    logits = answer_logits(model, batch)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    token_loss = nn.functional.cross_entropy(logits, labels[has_label], reduction="none")
    rows = has_label.nonzero()[:, 0]
    summed = torch.zeros(len(labels), dtype=logits.dtype, device=labels.device).index_add(0, rows, token_loss)
    return summed / has_label.sum(dim=1)
