"""What the benchmarks measure on: SmolLM2 with an adapter, moments like a warm-up's, and rows of mixed length."""

import os
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from peft import PeftModel

from lessexp.data.chat_format import TuluFormat
from lessexp.data.pool import DataUnavailableError, jsonl_pool
from lessexp.data.reasoning_gym import reasoning_gym_rows
from lessexp.data.rows import Row
from lessexp.data.tokenize import Batch, collate, sort_by_length, split_by_tokens, tokenize_rows
from lessexp.models.causal_lm import load_causal_lm, load_tokenizer
from lessexp.models.lora import LoraSettings, attach_lora, lora_parameters
from lessexp.models.source import model_folder
from lessexp.training.checkpoint import TrainerState, WarmupCheckpoint

CONF = Path(__file__).parents[2] / "conf"
_LONG_FAMILIES = ("gsm_symbolic", "word_sorting", "number_filtering", "countdown", "knights_knaves", "chain_sum")


def smollm2_folder() -> Path:
    """The model folder of the default configuration, fetched if need be."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config")
    return model_folder(path=cfg.model.path, source=instantiate(cfg.model.source), cache_dir=cfg.cache_dir)


def mixed_rows(n: int, *, seed: int) -> list[Row]:
    """Rows drawn from the files under ``$LESSEXP_DATA/train``, or generated where there are none."""
    if data := os.environ.get("LESSEXP_DATA"):
        return random.Random(seed).sample(jsonl_pool([f"{data}/train/*.jsonl"]), n)
    per_family = -(-n // len(_LONG_FAMILIES))
    rows = reasoning_gym_rows(
        {family: {} for family in _LONG_FAMILIES}, rows_per_family=per_family, seed=seed, split="benchmark"
    )
    return rows[:n]


def batches(rows: list[Row], folder: Path, *, max_length: int, tokens_per_batch: int) -> list[Batch]:
    """Rows as length-sorted batches; those whose answer is beyond ``max_length`` are left out.

    Raises:
        DataUnavailableError: no row is left.
    """
    tokenizer = load_tokenizer(folder)
    tokenized, _ = tokenize_rows(rows, tokenizer=tokenizer, chat_format=TuluFormat(tokenizer), max_length=max_length)
    if not tokenized:
        raise DataUnavailableError(f"none of {len(rows)} rows has an answer within {max_length} tokens")
    groups = split_by_tokens(sort_by_length(tokenized), tokens_per_batch)
    return [collate(group, pad_token_id=tokenizer.pad_token_id) for group in groups]


@dataclass(frozen=True)
class Subject:
    """A model in the middle of a warm-up."""

    model: PeftModel
    checkpoint: WarmupCheckpoint


def adapted_model(folder: Path, *, rank: int, seed: int = 0) -> Subject:
    """The model with an adapter and moments of the size that a warm-up leaves; their values are random."""
    settings = LoraSettings(rank, 2 * rank, 0.0, ("q_proj", "k_proj", "v_proj", "o_proj"))
    model = attach_lora(load_causal_lm(folder, dtype="float32", device="cpu"), settings, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    parameters = lora_parameters(model)
    for parameter in parameters.values():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.01)
    checkpoint = WarmupCheckpoint(
        adapter={name: parameter.detach() for name, parameter in parameters.items()},
        exp_avg={name: torch.randn(p.shape, generator=generator) * 1e-3 for name, p in parameters.items()},
        exp_avg_sq={name: torch.rand(p.shape, generator=generator) * 1e-6 for name, p in parameters.items()},
        state=TrainerState(epoch=1, step=100, betas=(0.9, 0.999), eps=1e-8, mean_learning_rate=1e-5, seed=seed),
    )
    return Subject(model, checkpoint)
