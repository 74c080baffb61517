"""How far settings that should alter no number do alter numbers, by rounding: other batches, several processes.

Each variant is a run up to its selection by ``run.py`` of this checkout, with a folder of artifacts of its own.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet
import torch
from rich.table import Table

from lessexp.data.rows import read_rows
from lessexp.errors import UserError
from lessexp.models.lora import read_adapter
from lessexp.reports.agreement import spearman
from lessexp.reports.tables import new_table
from lessexp.training.checkpoint import checkpoints_in

VARIANTS: Mapping[str, Sequence[str]] = {
    "the same again": (),
    "half the batches' tokens": ("gradients.tokens_per_batch=384",),
    "half the micro-batches": ("micro_batch_size=4",),
    "two processes": ("trainer=ddp", "trainer.processes=2", "device=cpu"),
}
"""Overrides of each variant, by its name."""


class BenchmarkRunError(UserError, RuntimeError):
    """A run of the benchmark that failed."""


def _selection(overrides: Sequence[str], folder: Path) -> dict[str, Any]:
    """Scores by example id, the selected ids and the last warm-up checkpoint's adapter of a run."""
    root = Path(__file__).parents[2]
    places = [f"artifacts_dir={folder / 'artifacts'}", f"hydra.run.dir={folder / 'run'}", "logger=none"]
    command = [sys.executable, str(root / "run.py"), "selector.stages=[select]", *overrides, *places]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise BenchmarkRunError(f"a run with {' '.join(overrides)} failed: {reason:.300}")
    table = pyarrow.parquet.read_table(folder / "run" / "scores.parquet")
    [warmup] = (path.parent for path in (folder / "artifacts" / "warmup").glob("*/COMPLETE"))
    adapter = read_adapter(checkpoints_in(warmup)[-1])
    return {
        "scores": dict(zip(table["example_id"].to_pylist(), table["score"].to_pylist(), strict=True)),
        "selected": {row.example_id for row in read_rows([folder / "run" / "selected.jsonl"])},
        "adapter": torch.cat([adapter[name].flatten().double() for name in sorted(adapter)]),
    }


def _compared(found: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a variant beside the unchanged run."""
    one, other = (torch.tensor([run["scores"][name] for name in base["scores"]]) for run in (found, base))
    of_adapter = (found["adapter"] - base["adapter"]).abs().max() / base["adapter"].abs().max()
    return {
        "adapter": of_adapter.item(),
        "score": ((one - other).abs().max() / (other.max() - other.min())).item(),
        "spearman": spearman(one, other),
        "selected": len(found["selected"] & base["selected"]) / len(base["selected"]),
    }


def measure(*, overrides: Sequence[str], dtypes: Sequence[str]) -> dict[str, Any]:
    """Figures of each variant in each type of the frozen weights.

    ``adapter`` is the largest difference of the last warm-up checkpoint as a share of its largest value, ``score`` the
    largest difference of a score as a share of all scores' range, ``selected`` the share of the selected rows that
    both runs select.
    """
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for dtype in dtypes:
        settings = [*overrides, f"model.dtype={dtype}"]
        with tempfile.TemporaryDirectory() as folder:
            base = _selection(settings, Path(folder))
        for name, change in VARIANTS.items():
            with tempfile.TemporaryDirectory() as folder:
                found = _selection([*settings, *change], Path(folder))
            figures.setdefault(dtype, {})[name] = _compared(found, base)
    return {"overrides": list(overrides), "figures": figures}


def tables(results: Mapping[str, Any]) -> Iterator[Table]:
    """One row a type and variant."""
    table = new_table("Beside the unchanged run", "", "adapter", "score", "Spearman", "selected")
    for dtype, variants in results["figures"].items():
        table.add_section()
        for name, one in variants.items():
            shares = (
                f"{one['adapter']:.1g}",
                f"{one['score']:.1g}",
                f"{one['spearman']:.6f}",
                f"{one['selected']:.0%}",
            )
            table.add_row(f"{dtype}, {name}", *shares)
    yield table
