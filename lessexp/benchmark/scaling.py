"""Whether what is forecast before a run comes true, at several sizes of the pool.

Each size is a run up to its selection with a folder of artifacts of its own, in a process of its own.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from lessexp.benchmark.fresh_process import in_fresh_process
from lessexp.pipeline import run
from lessexp.reports.tables import new_table, with_unit
from lessexp.stages.composition import compose_config
from lessexp.stages.cost import bytes_in
from lessexp.stages.experiment import Experiment
from lessexp.stages.forecast import Forecaster

_UNITS = {"flops": "FLOP", "bytes_written": "B", "memory_bytes": "B", "seconds": ""}


def run_and_compare(overrides: Sequence[str], folder: Path) -> dict[str, dict[str, float]]:
    """What was forecast of a run up to its selection, and what it took.

    Args:
        overrides: as ``run.py`` takes them.
        folder: empty; gets the run and its artifacts.
    """
    artifacts, run_folder = folder / "artifacts", folder / "run"
    run_folder.mkdir()
    cfg = compose_config([*overrides, "logger=none", f"artifacts_dir={artifacts}"])
    cfg.selector.stages = ["select"]
    forecast = Forecaster(Experiment(cfg, run_folder)).forecast()
    run(cfg, run_folder)
    stages = [json.loads(file.read_text(encoding="utf-8")) for file in (run_folder / "stages").glob("*.json")]
    measured = {
        "flops": float(sum(stage["flops"] for stage in stages)),
        "bytes_written": float(bytes_in(artifacts) + bytes_in(run_folder)),
        "memory_bytes": float(max(stage["peak_memory_bytes"] for stage in stages)),
        "seconds": float(sum(stage["seconds"] for stage in stages)),
    }
    return {name: {"forecast": float(getattr(forecast, name)), "measured": measured[name]} for name in measured}


def measure(*, overrides: Sequence[str], sizes: Sequence[int]) -> dict[str, Any]:
    """Forecast and measured figures for each number of pool rows."""
    found = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            settings = [*overrides, f"pool_sample.n_rows={size}"]
            found[str(size)] = in_fresh_process(run_and_compare, settings, Path(folder))
    return {"overrides": list(overrides), "rows": found}


def tables(results: Mapping[str, Any]) -> Iterator[Table]:
    """One row a size and figure."""
    table = new_table("What was forecast and what a run took up to its selection", "", "forecast", "measured", "ratio")
    for size, figures in results["rows"].items():
        table.add_section()
        for name, pair in figures.items():
            said, took = (_text(name, pair[which]) for which in ("forecast", "measured"))
            table.add_row(Text(f"{size} rows, {name}"), said, took, f"{pair['measured'] / pair['forecast']:.2f}")
    yield table


def _text(name: str, value: float) -> str:
    return with_unit(value, _UNITS[name]) if _UNITS[name] else f"{value:.0f} s"
