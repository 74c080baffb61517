"""Which of the selected rows a page lists, with their scores."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet
from jaxtyping import Float, Int64

from lessexp.data.record_files import read_records
from lessexp.data.rows import Row, checked_rows


@dataclass(frozen=True)
class RunScores:
    """What ``scores.parquet`` holds.

    Attributes:
        example_ids: the scored rows in pool order.
        datasets: of each row.
        score: of each row, from all subtasks.
        subtasks: names of the columns.
        by_subtask: one line a row.
    """

    example_ids: list[str]
    datasets: list[str]
    score: Float[np.ndarray, " n_scored"]
    subtasks: list[str]
    by_subtask: Float[np.ndarray, "n_scored n_subtask"]


@dataclass(frozen=True)
class ListedRow:
    """A selected row on a page.

    Attributes:
        rank: in the selection, from 1.
        row: as it was selected.
        score: from all subtasks.
        by_subtask: in the order of the subtasks.
    """

    rank: int
    row: Row
    score: float
    by_subtask: list[float]


def read_scores(run_folder: Path) -> RunScores:
    """Read ``scores.parquet``."""
    table = pyarrow.parquet.read_table(run_folder / "scores.parquet")
    subtasks = table.column_names[3:]
    return RunScores(
        example_ids=table["example_id"].to_pylist(),
        datasets=table["dataset"].to_pylist(),
        score=table["score"].to_numpy(),
        subtasks=subtasks,
        by_subtask=np.stack([table[name].to_numpy() for name in subtasks], axis=1),
    )


def selected_places(run_folder: Path, scores: RunScores) -> Int64[np.ndarray, " n_selected"]:
    """Where the rows of ``selected.jsonl``, best first, stand among the scored ones."""
    place = {example_id: index for index, example_id in enumerate(scores.example_ids)}
    records = read_records([run_folder / "selected.jsonl"])
    return np.array([place[record["id"]] for _, record in records], dtype=np.int64)


def ranks_to_list(
    by_subtask: Float[np.ndarray, "n_selected n_subtask"], datasets: Sequence[str], *, n_rows: int
) -> list[int]:
    """Places in the selection of the rows to list, ascending: all, or those that each way of sorting begins with.

    Half of them are the best of all. Then subtasks and data sets take turns, each giving its best row that is not
    yet listed, so that a page sorted by a subtask or filtered by a data set shows the right rows first.

    Args:
        by_subtask: scores of the selected rows, best row first.
        datasets: of the same rows.
        n_rows: how many to list at most.
    """
    if len(datasets) <= n_rows:
        return list(range(len(datasets)))
    names = np.array(datasets)
    orders = [np.argsort(-column, kind="stable") for column in by_subtask.T]
    orders += [np.flatnonzero(names == name) for name in dict.fromkeys(datasets)]
    chosen = dict.fromkeys(range(n_rows // 2))
    for place in itertools.chain.from_iterable(itertools.zip_longest(*orders)):
        if len(chosen) == n_rows:
            break
        if place is not None:  # an order that has come to its end
            chosen[int(place)] = None
    return sorted(chosen)


def read_listed(
    run_folder: Path, scores: RunScores, places: Int64[np.ndarray, " n_selected"], listed: Sequence[int]
) -> list[ListedRow]:
    """The rows of ``selected.jsonl`` at some of its places, ascending, with their scores."""
    wanted = set(listed)
    rows = checked_rows(lambda: read_records([run_folder / "selected.jsonl"]))
    return [
        ListedRow(
            rank=place + 1,
            row=row,
            score=float(scores.score[places[place]]),
            by_subtask=scores.by_subtask[places[place]].tolist(),
        )
        for place, row in enumerate(rows)
        if place in wanted
    ]


def best_places(values: Float[np.ndarray, " n_selected"], *, n: int) -> list[int]:
    """Places of the ``n`` highest values, best first; ties go to the row that comes first."""
    return np.argsort(-values, kind="stable")[:n].tolist()
