"""What gradient features cost beside a plain forward and backward pass, and beside the paper's released way."""

import time
from pathlib import Path

import torch
from torch import nn

from lessexp.benchmark.subject import Subject, adapted_model, batches, mixed_rows, smollm2_folder
from lessexp.benchmark.timing import Timing, peak_memory_bytes, time_in_turns
from lessexp.data.tokenize import Batch
from lessexp.gradients.adam import AdamDirection, adam_direction
from lessexp.gradients.per_example import GradientFeatures
from lessexp.gradients.projection import SparseSignProjector
from lessexp.models.causal_lm import per_example_loss
from lessexp.models.lora import lora_parameters

PROJ_DIM = 8192
ROWS_A_PROJECTION = 16  # how many gradients the released code collects before it projects
COLUMNS_A_BLOCK = 128  # of the projection, whose signs it draws at a time
SAMPLED_COORDINATES = 1 << 21  # of a block: all of them at r = 16


def plain_pass(model: nn.Module, batched: list[Batch]) -> None:
    """Forward with the model's own loss and backward into every adapter parameter's ``.grad``."""
    for batch in batched:
        model.zero_grad(set_to_none=True)
        loss = model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels, use_cache=False
        ).loss
        loss.backward()
    model.zero_grad(set_to_none=True)


def plain_pass_answers_only(model: nn.Module, batched: list[Batch]) -> None:
    """The same with our loss, which leaves out the vocabulary where no label is."""
    for batch in batched:
        model.zero_grad(set_to_none=True)
        per_example_loss(model, batch).sum().backward()
    model.zero_grad(set_to_none=True)


def features_of(subject: Subject) -> GradientFeatures:
    """Our features with Γ and the default projection."""
    direction = AdamDirection(subject.checkpoint, eps_inside_sqrt=False, bias_correction=True)
    return GradientFeatures(subject.model, SparseSignProjector(PROJ_DIM, seed=0, nonzeros=1), direction)


def feature_pass(features: GradientFeatures, batched: list[Batch]) -> None:
    """Features of every row."""
    for batch in batched:
        features.compute(batch)


def released_seconds(subject: Subject, singles: list[Batch]) -> float:
    """Seconds that one row takes the released way: batch size 1, all gradients joined, Γ, dense projection.

    For every 16 rows the projection draws its signs again (``bernoulli_``, twice less one), in blocks of 128
    columns over all coordinates. The first coordinates of one block are timed and scaled up.
    """
    parameters = lora_parameters(subject.model)
    checkpoint, state = subject.checkpoint, subject.checkpoint.state
    exp_avg = torch.cat([checkpoint.exp_avg[name].flatten() for name in parameters])
    exp_avg_sq = torch.cat([checkpoint.exp_avg_sq[name].flatten() for name in parameters])
    collected = []
    started = time.perf_counter()
    for single in singles:
        subject.model.zero_grad(set_to_none=True)
        subject.model(input_ids=single.input_ids, labels=single.labels, use_cache=False).loss.backward()
        joined = torch.cat([parameter.grad.flatten() for parameter in parameters.values()])
        gamma = adam_direction(
            joined[None], exp_avg, exp_avg_sq, step=state.step + 1, betas=state.betas, eps=state.eps,
            eps_inside_sqrt=True, bias_correction=False,
        )  # fmt: skip
        collected.append(gamma[0, :SAMPLED_COORDINATES])
    gradients = (time.perf_counter() - started) / len(singles)
    subject.model.zero_grad(set_to_none=True)
    rows = torch.stack(collected[:ROWS_A_PROJECTION])
    signs = torch.zeros(rows.shape[1], COLUMNS_A_BLOCK)  # made once, so that its pages are there when it is drawn
    generator = torch.Generator().manual_seed(0)
    started = time.perf_counter()
    signs.bernoulli_(0.5, generator=generator).mul_(2).sub_(1)
    _ = rows @ signs
    sampled = time.perf_counter() - started
    n_samples = (len(exp_avg) / rows.shape[1]) * (PROJ_DIM / COLUMNS_A_BLOCK)
    return gradients + sampled * n_samples / ROWS_A_PROJECTION


def _plain_alone(folder: Path, rank: int, batched: list[Batch]) -> None:
    plain_pass(adapted_model(folder, rank=rank).model, batched)


def _features_alone(folder: Path, rank: int, batched: list[Batch]) -> None:
    feature_pass(features_of(adapted_model(folder, rank=rank)), batched)


def measure(*, n_rows: int, max_length: int, tokens_per_batch: int, repeats: int, ranks: list[int]) -> dict:
    """All figures; ratios are of medians."""
    folder = smollm2_folder()
    rows = mixed_rows(n_rows, seed=0)
    batched = batches(rows, folder, max_length=max_length, tokens_per_batch=tokens_per_batch)
    singles = batches(rows, folder, max_length=max_length, tokens_per_batch=1)
    n_rows = sum(len(batch.example_ids) for batch in batched)
    results: dict = {
        "n_rows": n_rows,
        "n_tokens": int(sum(batch.attention_mask.sum() for batch in batched)),
        "proj_dim": PROJ_DIM,
    }
    for rank in ranks:
        subject = adapted_model(folder, rank=rank)
        features = features_of(subject)
        timings: dict[str, Timing] = time_in_turns(
            {
                "plain": lambda model=subject.model: plain_pass(model, batched),
                "plain_answers_only": lambda model=subject.model: plain_pass_answers_only(model, batched),
                "features": lambda features=features: feature_pass(features, batched),
            },
            repeats=repeats,
        )
        released = released_seconds(subject, singles[:: max(1, len(singles) // ROWS_A_PROJECTION)]) * n_rows
        suffix = "" if rank == ranks[0] else f"_r{rank}"
        results |= {
            f"seconds{suffix}": {name: vars(timing) for name, timing in timings.items()} | {"released": released},
            f"features_over_plain{suffix}": timings["features"].median / timings["plain"].median,
            f"features_over_plain_answers_only{suffix}": timings["features"].median
            / timings["plain_answers_only"].median,
            f"released_over_features{suffix}": released / timings["features"].median,
        }
        del subject, features
        memory = {
            "plain": peak_memory_bytes(_plain_alone, folder, rank, batched),
            "features": peak_memory_bytes(_features_alone, folder, rank, batched),
        }
        results[f"peak_memory_bytes{suffix}"] = memory
        results[f"memory_over_plain{suffix}"] = memory["features"] / memory["plain"]
    return results
