"""What the benchmarks measure on: SmolLM2 with an adapter and Adam moments, and rows of mixed length.

Speed does not depend on the values of adapter and moments, so `adapted_model` draws them; fidelity does, so
`warmed_model` trains for them.
"""

import os
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.utils import instantiate
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from lessexp.data.chat_format import TuluFormat
from lessexp.data.pool import DataUnavailableError
from lessexp.data.reasoning_gym import reasoning_gym_rows
from lessexp.data.rows import Row, read_rows
from lessexp.data.tokenize import Batch, TokenizedRow, collate, sort_by_length, split_by_tokens, tokenize_rows
from lessexp.models.causal_lm import load_causal_lm, load_tokenizer, per_example_loss
from lessexp.models.lora import LoraSettings, attach_lora, lora_parameters
from lessexp.models.source import model_folder
from lessexp.stages.composition import compose_config
from lessexp.stages.progress import progress_bar, quieten_libraries
from lessexp.training.checkpoint import EpochCheckpoint, TrainerState, moments_by_name

WARMUP_ROWS = 64
WARMUP = {"steps": 16, "learning_rate": 5e-4}  # of the fidelity benchmarks
_ROWS_A_STEP = 4
_LONG_FAMILIES = ("gsm_symbolic", "word_sorting", "number_filtering", "countdown", "knights_knaves", "chain_sum")


def smollm2_folder() -> Path:
    """The model folder of the default configuration, fetched if need be."""
    cfg = compose_config([])
    source = instantiate(cfg.model.source)
    return model_folder(path=cfg.model.path, source=source, cache_dir=cfg.cache_dir, key="model")


def mixed_rows(n: int, *, seed: int) -> list[Row]:
    """Rows drawn from the files under ``$LESSEXP_DATA/train``, or generated where it is not set; in random order.

    Raises:
        DataUnavailableError: the files hold fewer rows.
    """
    if data := os.environ.get("LESSEXP_DATA"):
        pool = read_rows(sorted(Path(data, "train").glob("*.jsonl")))
        if n > len(pool):
            raise DataUnavailableError(f"{data}/train holds {len(pool)} rows, {n} are needed; lower --rows")
        return random.Random(seed).sample(pool, n)
    per_family = -(-n // len(_LONG_FAMILIES))
    rows = reasoning_gym_rows(
        {family: {} for family in _LONG_FAMILIES}, rows_per_family=per_family, seed=seed, split="benchmark"
    )
    return random.Random(seed).sample(rows[:n], n)


def warmup_and_other_rows(n: int, *, seed: int) -> tuple[list[Row], list[Row]]:
    """Rows for `warmed_model`, and ``n`` others to measure on; raises as `mixed_rows` does."""
    rows = mixed_rows(WARMUP_ROWS + n, seed=seed)
    return rows[:WARMUP_ROWS], rows[WARMUP_ROWS:]


def _tokenized(
    rows: list[Row], tokenizer: PreTrainedTokenizerBase, *, max_length: int, at_least: int
) -> list[TokenizedRow]:
    kept, _ = tokenize_rows(rows, tokenizer=tokenizer, chat_format=TuluFormat(tokenizer), max_length=max_length)
    if len(kept) < at_least:
        raise DataUnavailableError(
            f"{len(kept)} of {len(rows)} rows have an answer within {max_length} tokens, {at_least} are needed; "
            "raise --max-length or the number of rows"
        )
    return kept


def batches(rows: list[Row], folder: Path, *, max_length: int, tokens_per_batch: int, at_least: int = 1) -> list[Batch]:
    """Rows as length-sorted batches; those whose answer is beyond ``max_length`` are left out.

    Raises:
        DataUnavailableError: fewer than ``at_least`` rows are left.
    """
    tokenizer = load_tokenizer(folder)
    tokenized = _tokenized(rows, tokenizer, max_length=max_length, at_least=at_least)
    groups = split_by_tokens(sort_by_length(tokenized), tokens_per_batch)
    return [collate(group, pad_token_id=tokenizer.pad_token_id) for group in groups]


@dataclass(frozen=True)
class Subject:
    """A model in the middle of a warm-up."""

    model: PeftModel
    checkpoint: EpochCheckpoint


def _with_adapter(folder: Path, rank: int, seed: int) -> PeftModel:
    quieten_libraries()  # a process that measures memory alone starts with the libraries' own settings
    settings = LoraSettings(rank, 2 * rank, 0.0, ("q_proj", "k_proj", "v_proj", "o_proj"))
    return attach_lora(load_causal_lm(folder, dtype="float32", device="cpu"), settings, seed=seed).eval()


def adapted_model(folder: Path, *, rank: int, seed: int = 0) -> Subject:
    """The model with an adapter and moments of the size that a warm-up leaves; their values are random."""
    model = _with_adapter(folder, rank, seed)
    generator = torch.Generator().manual_seed(seed)
    parameters = lora_parameters(model)
    for parameter in parameters.values():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.01)
    checkpoint = EpochCheckpoint(
        parameters={name: parameter.detach() for name, parameter in parameters.items()},
        exp_avg={name: torch.randn(p.shape, generator=generator) * 1e-3 for name, p in parameters.items()},
        exp_avg_sq={name: torch.rand(p.shape, generator=generator) * 1e-6 for name, p in parameters.items()},
        state=TrainerState(epoch=1, step=100, betas=(0.9, 0.999), eps=1e-8, mean_learning_rate=1e-5, seed=seed),
    )
    return Subject(model, checkpoint)


def warmed_model(
    folder: Path,
    rows: list[Row],
    *,
    rank: int,
    max_length: int,
    steps: int,
    learning_rate: float,
    seed: int,
) -> Subject:
    """The model after the first steps of a warm-up, with the adapter and the moments that they left.

    Args:
        folder: of the model.
        rows: to train on; take others than those that are measured.
        rank: of the adapter.
        max_length: tokens of a row that are read.
        steps: of AdamW, each on a few rows that the seed draws.
        learning_rate: of every step.
        seed: of the adapter and of the rows of each step.

    Raises:
        DataUnavailableError: no row has an answer within ``max_length``.
    """
    tokenizer = load_tokenizer(folder)
    kept = _tokenized(rows, tokenizer, max_length=max_length, at_least=1)
    model = _with_adapter(folder, rank, seed)
    parameters = lora_parameters(model)
    optimizer = torch.optim.AdamW(parameters.values(), lr=learning_rate, weight_decay=0.0)
    draw = random.Random(seed)
    with progress_bar("warm-up", total=steps) as advance:
        for _ in range(steps):
            drawn = draw.sample(kept, min(_ROWS_A_STEP, len(kept)))
            per_example_loss(model, collate(drawn, pad_token_id=tokenizer.pad_token_id)).mean().backward()
            torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)  # as the recipes do
            optimizer.step()
            optimizer.zero_grad()
            advance(1)
    exp_avg, exp_avg_sq = moments_by_name(parameters, optimizer)
    settings = optimizer.defaults
    checkpoint = EpochCheckpoint(
        parameters={name: parameter.detach() for name, parameter in parameters.items()},
        exp_avg=exp_avg,
        exp_avg_sq=exp_avg_sq,
        state=TrainerState(1, steps, settings["betas"], settings["eps"], learning_rate, seed),
    )
    return Subject(model, checkpoint)
