"""What storing features in fewer bits does to the ranking of a pool, on real gradients."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from rich.table import Table
from torch import Tensor

from lessexp.benchmark.subject import WARMUP, batches, smollm2_folder, warmed_model, warmup_and_other_rows
from lessexp.data.tokenize import Batch
from lessexp.gradients.adam import AdamDirection, PlainGradient
from lessexp.gradients.codecs import CODECS
from lessexp.gradients.datastore import DatastoreWriter, GradientDatastore
from lessexp.gradients.manifest import Manifest
from lessexp.gradients.per_example import GradientFeatures
from lessexp.gradients.projection import SparseSignProjector
from lessexp.influence import score
from lessexp.influence.aggregate import max_of_subtask_means
from lessexp.reports.agreement import spearman, top_overlap
from lessexp.reports.tables import new_table
from lessexp.stages.progress import progress_bar

REFERENCE = "float32"


@dataclass(frozen=True)
class Features:
    """Projected directions of some rows, in memory."""

    example_ids: list[str]
    rows: Float[Tensor, "_n _proj_dim"]


def compute_features(description: str, features: GradientFeatures, batched: Sequence[Batch]) -> Features:
    """Features of all batches, with a progress bar."""
    example_ids = [example_id for batch in batched for example_id in batch.example_ids]
    rows = []
    with progress_bar(description, total=len(example_ids)) as advance:
        for batch in batched:
            rows.append(features.compute(batch))
            advance(len(batch.example_ids))
    return Features(example_ids, torch.cat(rows))


def write_store(root: Path, features: Features, *, dtype: str, subtasks: list[str] | None) -> GradientDatastore:
    """A store of the features in one of `lessexp.gradients.codecs.CODECS`."""
    manifest = Manifest(
        example_ids=features.example_ids,
        checkpoints=[1],
        proj_dim=features.rows.shape[1],
        dtype=dtype,
        rows_per_shard=512,
        provenance={},
        subtasks=subtasks,
    )
    writer = DatastoreWriter(root, manifest)
    for shard in writer.missing_shards(1):
        held = manifest.shard_rows(shard)
        writer.write_shard(1, shard, features.rows[held.start : held.stop])
    return writer.finish()


def scores_in(
    dtype: str, pool: Features, target: Features, subtasks: list[str]
) -> tuple[Float[Tensor, " n_pool"], float]:
    """Scores from stores of that type, and the bytes that a pool row takes on disk."""
    with tempfile.TemporaryDirectory() as folder:
        pool_store = write_store(Path(folder) / "pool", pool, dtype=dtype, subtasks=None)
        target_store = write_store(Path(folder) / "target", target, dtype=dtype, subtasks=subtasks)
        n_bytes = sum(shard.stat().st_size for shard in pool_store.root.rglob("*.safetensors"))
        return max_of_subtask_means(score(pool_store, target_store, [1.0])[0]), n_bytes / len(pool.example_ids)


def agreement(pool: Features, target: Features, subtasks: list[str]) -> dict[str, Any]:
    """Agreement with float32 and size of every type; pool rows without a direction are left out."""
    found = {dtype: scores_in(dtype, pool, target, subtasks) for dtype in CODECS}
    exact, _ = found[REFERENCE]
    has_direction = ~exact.isnan()
    exact = exact[has_direction]
    results: dict[str, Any] = {
        "n_pool": len(exact),
        "n_target": len(target.example_ids),
        "n_subtasks": len(set(subtasks)),
    }
    for dtype, (scores, bytes_a_row) in found.items():
        kept = scores[has_direction]
        results[f"spearman_{dtype}"] = spearman(kept, exact)
        results[f"top_5_percent_overlap_{dtype}"] = top_overlap(kept, exact, k=max(1, len(exact) // 20))
        results[f"bytes_a_row_{dtype}"] = bytes_a_row
    return results


def measure(
    *, n_rows: int, n_target: int, max_length: int, tokens_per_batch: int, rank: int, proj_dim: int
) -> dict[str, Any]:
    """Features of SmolLM2 after a short warm-up on other rows, computed once, and their `agreement` by type."""
    folder = smollm2_folder()
    warmup_rows, rows = warmup_and_other_rows(n_rows + n_target, seed=2)
    subtask_of = {row.example_id: row.dataset for row in rows}
    target_batches, pool_batches = (
        batches(part, folder, max_length=max_length, tokens_per_batch=tokens_per_batch, at_least=n)
        for part, n in ((rows[:n_target], 1), (rows[n_target:], 2))
    )
    subject = warmed_model(folder, warmup_rows, rank=rank, max_length=max_length, seed=2, **WARMUP)
    projector = SparseSignProjector(proj_dim, seed=0, nonzeros=1)
    gamma = AdamDirection(subject.checkpoint, eps_inside_sqrt=False, bias_correction=True)
    plain = PlainGradient(subject.checkpoint)
    target = compute_features("target features", GradientFeatures(subject.model, projector, plain), target_batches)
    pool = compute_features("pool features", GradientFeatures(subject.model, projector, gamma), pool_batches)
    subtasks = [subtask_of[example_id] for example_id in target.example_ids]
    return {"proj_dim": proj_dim} | agreement(pool, target, subtasks)


def tables(results: Mapping[str, Any]) -> Iterator[Table]:
    """A line a type."""
    title = f"Ranking of {results['n_pool']:,} rows by stores of d = {results['proj_dim']}, beside float32"
    table = new_table(title, "dtype", "Spearman", "overlap of the top 5 %", "bytes a row")
    for dtype in CODECS:
        table.add_row(
            dtype,
            f"{results[f'spearman_{dtype}']:.5f}",
            f"{results[f'top_5_percent_overlap_{dtype}']:.1%}",
            f"{results[f'bytes_a_row_{dtype}']:,.0f}",
        )
    yield table
