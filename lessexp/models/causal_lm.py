"""The frozen language model: loading it, and the loss of each example on its answer tokens."""

import contextlib
import re
from collections.abc import Collection, Iterator
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
        ModelUnavailableError: the folder holds no tokenizer, a damaged one, one that cannot report character offsets,
            or one that has nothing to pad with.
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
    if tokenizer.pad_token is None:
        raise ModelUnavailableError(
            f"{folder}: its tokenizer has neither a padding token nor an end token; name one of them in "
            f'{folder / "tokenizer_config.json"} ("eos_token": "...")'
        )
    return tokenizer


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()):.200}"


_DTYPES = ("float32", "bfloat16", "float16", "float64")  # types of 8 bits can be stored, but not computed with


def floating_point_type(name: str) -> torch.dtype:
    """The torch type of that name.

    Raises:
        ModelUnavailableError: no model computes in it.
    """
    if name not in _DTYPES:
        raise ModelUnavailableError(f"model.dtype must be {', '.join(_DTYPES[:-1])} or {_DTYPES[-1]}, got {name}")
    return getattr(torch, name)


@contextlib.contextmanager
def errors_of_models(folder: Path, done: str) -> Iterator[None]:
    """Let what a model's files lead to be told in one sentence.

    Args:
        folder: of the model.
        done: to it, inside, e.g. ``loaded``.

    Raises:
        ModelUnavailableError: the code inside raises anything but want of memory.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        raise
    # A damaged config.json or file of weights leads to any class of four libraries.
    except Exception as error:
        raise ModelUnavailableError(
            f"{folder}: its model cannot be {done} ({_brief(error)}); copy it again, or choose another"
        ) from error


def load_causal_lm(folder: Path, *, dtype: str, device: str, quantization: str | None = None) -> PreTrainedModel:
    """The model of a local folder, from safetensors alone, in evaluation mode.

    Args:
        folder: see `lessexp.models.source.model_folder`.
        dtype: of the frozen weights, e.g. ``bfloat16``.
        device: e.g. ``cpu`` or ``cuda``; on ``meta`` tensors have shapes and no values, and no weight is read.
        quantization: rounds the linear layers, e.g. ``nf4``; see `lessexp.models.quantization`.

    Raises:
        ModelUnavailableError: there is no floating-point type or no quantisation of that name, what the latter
            needs is not installed, a file of the folder is missing or damaged, or its tensors are not the model's.
    """
    floating_point = floating_point_type(dtype)
    quantized = quantization_config(quantization, dtype=floating_point)
    with errors_of_models(folder, "loaded"):
        model, loaded = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=floating_point,
            quantization_config=quantized,
            device_map={"": device},  # rounded weights cannot be moved afterwards
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are named; they are refused below
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    for name, in_files, in_model in sorted(loaded["mismatched_keys"]):
        raise ModelUnavailableError(
            f"{folder}: {name} has the shape {tuple(in_files)} in the files of weights and {tuple(in_model)} by "
            "config.json; copy the model again"
        )
    _refuse_other_tensors(folder, loaded["missing_keys"], loaded["unexpected_keys"])
    refuse_blocks_over_rows(model)
    prepare_for_gradients(model)
    return model.eval()


# Masks that older versions of transformers stored with GPT-like models; today they are computed.
_STORED_MASK = re.compile(r"\.(attn|attention)\.(masked_)?bias$")


def _refuse_other_tensors(folder: Path, missing: Collection[str], unexpected: Collection[str]) -> None:
    """Refuse a model whose files lack tensors, which transformers would draw at random, or hold others.

    transformers has left out what it knows to be of no use to a model of this class, and tied weights.

    Raises:
        ModelUnavailableError: naming the first tensors.
    """
    unexpected = {name for name in unexpected if not _STORED_MASK.search(name)}
    prefixes = {other.removesuffix(name) for name in missing for other in unexpected if other.endswith(f".{name}")}
    if prefixes:
        raise ModelUnavailableError(
            f"{folder}: its tensors' names begin with '{min(prefixes)}', which a wrapper (torch.compile, DDP) has put "
            "before the model's own; save the model inside the wrapper"
        )
    if missing:
        others = f", and hold {_some(unexpected)} in their place" if unexpected else ""
        raise ModelUnavailableError(
            f"{folder}: the files of weights lack {_some(missing)}{others}; copy the model again or correct config.json"
        )
    if unexpected:
        raise ModelUnavailableError(
            f"{folder}: the files of weights hold {_some(unexpected)}, which a model of this config.json lacks; "
            "correct config.json or, if the model is right without them, load it with transformers and save it again"
        )


def _some(names: Collection[str]) -> str:
    first = ", ".join(sorted(names)[:3])
    return first if len(names) <= 3 else f"{first} and {len(names) - 3} more"


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
