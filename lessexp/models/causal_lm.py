"""The frozen language model: loading it, and the loss of each example on its answer tokens."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from lessexp.data.tokenize import IGNORED_LABEL, Batch


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The fast tokenizer of a model folder; it pads with its end token if it has none for padding.

    Raises:
        ValueError: the tokenizer cannot report character offsets.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise ValueError(f"{folder}: labels are found by character offsets, which needs a fast tokenizer")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_causal_lm(folder: Path, *, dtype: str, device: str) -> PreTrainedModel:
    """The model of a local folder, from safetensors alone, in evaluation mode.

    Args:
        folder: see `lessexp.models.source.model_folder`.
        dtype: of the frozen weights, e.g. ``bfloat16``.
        device: e.g. ``cpu`` or ``cuda``.
    """
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=getattr(torch, dtype),
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    return model.to(device).eval()


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
    """ℓ of LESS: each example's mean cross-entropy over its answer tokens, in float32 [nats per token]."""
    labels = batch.labels[:, 1:]
    has_label = labels != IGNORED_LABEL
    token_loss = nn.functional.cross_entropy(answer_logits(model, batch).float(), labels[has_label], reduction="none")
    rows = has_label.nonzero()[:, 0]
    summed = torch.zeros(len(labels), device=labels.device).index_add(0, rows, token_loss)
    return summed / has_label.sum(dim=1)
