"""What scoring a store costs beside reading its bytes and the bare matrix product."""

import tempfile
from pathlib import Path

import torch

from lessexp.benchmark.timing import peak_memory_bytes, time_in_turns
from lessexp.gradients.datastore import DatastoreWriter, GradientDatastore
from lessexp.gradients.manifest import Manifest
from lessexp.influence import score


def write_store(root: Path, *, n_rows: int, proj_dim: int, dtype: str, subtasks: list[str] | None, seed: int) -> None:
    """A store of random rows."""
    rows_per_shard = 512
    manifest = Manifest(
        example_ids=[f"row-{index}" for index in range(n_rows)],
        checkpoints=[1],
        proj_dim=proj_dim,
        dtype=dtype,
        rows_per_shard=rows_per_shard,
        provenance={"warmup": "random", "projection": {"proj_dim": proj_dim}},
        subtasks=subtasks,
    )
    writer = DatastoreWriter(root, manifest)
    generator = torch.Generator().manual_seed(seed)
    for shard in writer.missing_shards(1):
        rows = torch.randn(len(manifest.shard_rows(shard)), proj_dim, generator=generator)
        writer.write_shard(1, shard, rows)
    writer.finish()


def score_stores(pool: Path, target: Path) -> None:
    """Open both stores and score every row for every subtask."""
    score(GradientDatastore.open(pool), GradientDatastore.open(target), [1.0])


def read_bytes(pool: Path) -> None:
    """Read every shard's bytes into one buffer."""
    buffer = bytearray(64 << 20)
    for shard in sorted(pool.rglob("*.safetensors")):
        with shard.open("rb") as file:
            while file.readinto(buffer):
                pass


def bare_product(n_rows: int, rows: torch.Tensor, vectors: torch.Tensor) -> None:
    """As many products of a float32 block that stays in memory as the pool has blocks."""
    for _ in range(-(-n_rows // len(rows))):
        _ = rows @ vectors


def measure(*, n_rows: int, proj_dim: int, n_subtasks: int, repeats: int, dtypes: list[str]) -> dict:
    """All figures; ratios are of medians."""
    results: dict = {"n_rows": n_rows, "proj_dim": proj_dim, "n_subtasks": n_subtasks}
    subtasks = [f"subtask-{index}" for index in range(n_subtasks)]
    block, vectors = torch.randn(512, proj_dim), torch.randn(proj_dim, n_subtasks)
    for dtype in dtypes:
        with tempfile.TemporaryDirectory() as folder:
            pool, target = Path(folder) / "pool", Path(folder) / "target"
            write_store(pool, n_rows=n_rows, proj_dim=proj_dim, dtype=dtype, subtasks=None, seed=0)
            write_store(target, n_rows=n_subtasks, proj_dim=proj_dim, dtype="float32", subtasks=subtasks, seed=1)
            timings = time_in_turns(
                {
                    "score": lambda pool=pool, target=target: score_stores(pool, target),
                    "read": lambda pool=pool: read_bytes(pool),
                    "product": lambda: bare_product(n_rows, block, vectors),
                },
                repeats=repeats,
            )
            suffix = "" if dtype == dtypes[0] else f"_{dtype}"
            results[f"seconds{suffix}"] = {name: vars(timing) for name, timing in timings.items()}
            floor = timings["read"].median + timings["product"].median
            results[f"time_over_floor{suffix}"] = timings["score"].median / floor
            results[f"peak_memory_bytes{suffix}"] = peak_memory_bytes(score_stores, pool, target)
            results[f"bytes_stored{suffix}"] = sum(shard.stat().st_size for shard in pool.rglob("*.safetensors"))
    return results
