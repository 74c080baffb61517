"""The method for notebooks: a model, rows to choose from, and rows that show the wanted skill."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet
from datasets import Dataset
from datasets.table import InMemoryTable
from matplotlib.figure import Figure

from lessexp.data.arrow_rows import datasets_of, table_of_rows
from lessexp.data.rows import Row, read_rows
from lessexp.files import user_path
from lessexp.pipeline import run
from lessexp.reports import selection_figures
from lessexp.reports.results import RESULTS_FILE
from lessexp.stages.arguments import (
    is_in_memory,
    model_overrides,
    option_override,
    rows_overrides,
    write_given_rows,
)
from lessexp.stages.composition import Command, compose_config, new_run_folder, written_overrides
from lessexp.stages.configuration import ExperimentError

RowsGiven = str | os.PathLike | Sequence[str | os.PathLike] | Sequence[Mapping[str, Any]] | Dataset


@dataclass(frozen=True, repr=False)
class Selection:
    """What `select` found.

    Attributes:
        ids: of the selected rows, best first.
        scores: of all rows that could be scored, in the pool's order: ``example_id``, ``dataset``, ``score`` and a
            column for each subtask of the target.
        subset: the selected rows, best first: ``dataset``, ``id``, ``messages``, then the pool's other columns. A
            column whose values have no common Arrow type holds them as JSON text.
        excluded: by id, why a row could not be scored, or was passed over as a copy; a row that breaks the format and
            was skipped (``overrides=["data.on_bad_row=skip"]``) by its file and line.
        pool: all rows there were to choose from.
        folder: the run folder, where all this lies in files.
    """

    ids: list[str]
    scores: Dataset
    subset: Dataset
    excluded: dict[str, str]
    pool: Sequence[Row]
    folder: Path

    def __repr__(self) -> str:
        return f"Selection({len(self.ids)} of {len(self.pool)} rows, folder='{self.folder}')"

    def composition_figure(self) -> Figure:
        """Which data sets the rows come from, see `lessexp.reports.selection_figures.composition_figure`."""
        return selection_figures.composition_figure(datasets_of(self.pool), list(self.subset["dataset"]))

    def score_figure(self) -> Figure:
        """How the scores are distributed, see `lessexp.reports.selection_figures.score_figure`."""
        return selection_figures.score_figure(list(self.scores["score"]), self._is_selected())

    def length_figure(self) -> Figure:
        """Scores against lengths, see `lessexp.reports.selection_figures.length_figure`."""
        length_of = {row.example_id: row.answer_length for row in self.pool}
        lengths = [length_of[name] for name in self.scores["example_id"]]
        return selection_figures.length_figure(lengths, list(self.scores["score"]), self._is_selected())

    def _is_selected(self) -> list[bool]:
        selected = set(self.ids)
        return [name in selected for name in self.scores["example_id"]]


def select(
    model: str | os.PathLike,
    pool: RowsGiven,
    target: RowsGiven,
    *,
    fraction: float | int,
    selector: str = "less",
    seed: int = 0,
    folder: str | os.PathLike | None = None,
    overrides: Sequence[str] = (),
) -> Selection:
    """Select the pool rows that are of most use for what the target shows.

    It does what ``run.py`` does up to its selection, with the same configuration, so both share ``artifacts/``: what
    one has built the other reuses. Nothing is trained on the selected rows.

    Args:
        model: a name in ``conf/model``, such as ``smollm2_135m``, which brings its recipe with it; or a local Hugging
            Face model folder or the name of a model on the hub, which get the paper's recipe
            (``overrides=["recipe=smollm2_135m"]`` for that of a small model).
        pool: a file of rows (JSON lines or array, CSV, Parquet), a folder or glob pattern of such, several of these, a
            list of dictionaries, a ``datasets.Dataset``, or a name in ``conf/data``. Rows need ``messages`` only: data
            set and id are made up where they are missing.
        target: the same, with ``subtask`` where there are several; or a name in ``conf/target``.
        fraction: of the pool, above 0 and at most 1.
        selector: a name in ``conf/selector``.
        seed: draws the warm-up subset, adapters, row orders, dropout and the projection.
        folder: gets the files; None takes a new one, where ``run.py`` puts its runs.
        overrides: of any other setting, as on the command line, e.g. ``["lora.rank=8", "aggregate=mean"]``; they go
            before the other arguments.

    Raises:
        UserError: naming the argument, the row or the key that cannot work, and what to do.
    """
    if isinstance(overrides, str):
        raise ExperimentError(f"overrides must be a list of strings; give overrides=[{overrides!r}]")
    run_folder = user_path(folder).absolute() if folder is not None else new_run_folder()
    given = {"pool": pool, "target": target}
    files = {argument: run_folder / f"{argument}.jsonl" for argument in given}
    settings = model_overrides(model)
    for argument, rows in given.items():
        settings += rows_overrides(argument, rows, files[argument])
    settings += [option_override("selector", selector), f"fraction={fraction}", f"seed={seed}", "logger=none"]
    settings += [*overrides, "selector.stages=[select]"]
    cfg = compose_config(settings)
    if cfg.selector.fraction != fraction:
        raise ExperimentError(
            f"fraction={fraction} was asked for, but selector and overrides make it {cfg.selector.fraction}; give that"
        )
    _refuse_another_runs_folder(run_folder, settings)
    run_folder.mkdir(parents=True, exist_ok=True)
    for argument, rows in given.items():
        if is_in_memory(rows):
            skips = argument == "pool" and cfg.data.on_bad_row == "skip"
            write_given_rows(argument, rows, files[argument], keeps_bad_rows=skips)
    (run_folder / RESULTS_FILE).unlink(missing_ok=True)  # the rows in memory may be others than last time
    experiment = run(cfg, run_folder, command=Command(tuple(settings)))
    return _read(run_folder, experiment.pool)


def _refuse_another_runs_folder(folder: Path, settings: Sequence[str]) -> None:
    if (folder / "selected.jsonl").exists() and written_overrides(folder) != list(settings):
        raise ExperimentError(f"{folder} holds a selection with other settings; give another folder")


def _read(run_folder: Path, pool: Sequence[Row]) -> Selection:
    """What the stage ``select`` wrote."""
    excluded = pyarrow.parquet.read_table(run_folder / "excluded.parquet").to_pydict()
    subset = table_of_rows(read_rows([run_folder / "selected.jsonl"]))
    names = (
        example_id if file is None else f"{file}, line {line}"
        for example_id, file, line in zip(*(excluded[name] for name in ("example_id", "file", "line")), strict=True)
    )
    return Selection(
        ids=subset["id"].to_pylist(),
        scores=Dataset(InMemoryTable(pyarrow.parquet.read_table(run_folder / "scores.parquet"))),
        subset=Dataset(InMemoryTable(subset)),
        excluded=dict(zip(names, excluded["reason"], strict=True)),
        pool=pool,
        folder=run_folder,
    )
