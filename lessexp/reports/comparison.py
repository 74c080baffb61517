"""Runs side by side: which rows each selected, and how far their scores agree."""

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet
import torch
from rich.table import Table
from rich.text import Text

from lessexp.data.rows import Row, read_rows
from lessexp.errors import UserError
from lessexp.reports.agreement import spearman, top_overlap
from lessexp.reports.page import render
from lessexp.reports.results import RESULTS_FILE, read_results
from lessexp.reports.tables import new_table

_CURVE = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # shares of the pool at which the best rows are compared


class RunFolderError(UserError, ValueError):
    """A folder that cannot be compared; the message names it."""


@dataclass(frozen=True)
class SelectionOfRun:
    """What one run selected.

    Attributes:
        name: short, and different from that of the other runs compared.
        selected: best first.
        scores: of every scored row, by example id.
    """

    name: str
    selected: list[Row]
    scores: dict[str, float]


def read_selections(folders: Sequence[Path]) -> list[SelectionOfRun]:
    """Read ``selected.jsonl`` and ``scores.parquet`` of runs.

    Each is named by what its path does not share and, where the run finished, by its selector and seed.

    Raises:
        RunFolderError: fewer than two folders, the same one twice, or one without these files.
    """
    places = [folder.resolve() for folder in folders]
    if len(places) < 2 or len(set(places)) < len(places):
        raise RunFolderError("give two or more run folders, all different")
    for folder in folders:
        for file in ("selected.jsonl", "scores.parquet"):
            if not (folder / file).is_file():
                raise RunFolderError(f"{folder} holds no {file}; give the folder of a run that got past its selection")
    levels = itertools.zip_longest(*(place.parts for place in places))
    n_shared = next(depth for depth, parts in enumerate(levels) if len(set(parts)) > 1)
    selections = []
    for folder, place in zip(folders, places, strict=True):
        name = "/".join(place.parts[n_shared:]) or place.name
        if (folder / RESULTS_FILE).is_file():
            results = read_results(folder)
            name = f"{name} ({results['selector']}, seed {results['seed']})"
        selections.append(read_selection(folder, name))
    return selections


def read_selection(folder: Path, name: str) -> SelectionOfRun:
    """Read ``selected.jsonl`` and ``scores.parquet`` of one run."""
    table = pyarrow.parquet.read_table(folder / "scores.parquet", columns=["example_id", "score"]).to_pydict()
    scores = dict(zip(table["example_id"], table["score"], strict=True))
    return SelectionOfRun(name, read_rows([folder / "selected.jsonl"]), scores)


def jaccard(first: SelectionOfRun, second: SelectionOfRun) -> float:
    """Rows that both selected, over those that either did."""
    ids = [{row.example_id for row in run.selected} for run in (first, second)]
    return len(ids[0] & ids[1]) / len(ids[0] | ids[1])


def agreement(first: SelectionOfRun, second: SelectionOfRun) -> dict[str, Any]:
    """How far two runs agree: on what they selected, and on the ranking of the rows that both scored."""
    common = sorted(first.scores.keys() & second.scores.keys())
    scores = [torch.tensor([run.scores[name] for name in common], dtype=torch.float64) for run in (first, second)]
    return {
        "runs": [first.name, second.name],
        "jaccard": jaccard(first, second),
        "n_common": len(common),
        "spearman": spearman(*scores) if len(common) > 1 else None,
        "top_overlap": {
            f"{share:.0%}": top_overlap(*scores, k=max(1, round(share * len(common)))) for share in _CURVE if common
        },
    }


def composition(runs: Sequence[SelectionOfRun]) -> dict[str, dict[str, float]]:
    """Share of each data set in each run's selection, by data set, the most frequent first."""
    counts = {run.name: Counter(row.dataset for row in run.selected) for run in runs}
    total = sum(counts.values(), Counter())
    return {
        dataset: {run.name: counts[run.name][dataset] / len(run.selected) for run in runs}
        for dataset, _ in total.most_common()
    }


def answer_lengths(run: SelectionOfRun) -> dict[str, float]:
    """Quartiles of the length of what the assistant says in the selected rows [characters]."""
    lengths = [row.answer_length for row in run.selected]
    quartiles = statistics.quantiles(lengths, n=4, method="inclusive") if len(lengths) > 1 else lengths * 3
    return dict(zip(("25 %", "median", "75 %"), map(float, quartiles), strict=True))


def compare(runs: Sequence[SelectionOfRun], *, n_examples: int) -> dict[str, Any]:
    """All that the tables and the page show.

    Args:
        runs: one or more.
        n_examples: how many of each run's first rows to show.
    """
    return {
        "runs": [{"name": run.name, "n_selected": len(run.selected), **answer_lengths(run)} for run in runs],
        "pairs": [agreement(first, second) for first, second in itertools.combinations(runs, 2)],
        "composition": composition(runs),
        "examples": list(itertools.zip_longest(*(run.selected[:n_examples] for run in runs))),
    }


Lines = list[list[str]]
"""A table: its header, then its lines."""


def agreement_lines(comparison: Mapping[str, Any]) -> Lines:
    """How far every two runs agree."""
    pairs = comparison["pairs"]
    shares = list(dict.fromkeys(share for pair in pairs for share in pair["top_overlap"]))
    lines = [["runs", "Jaccard", "Spearman", "common", *(f"top {share}" for share in shares)]]
    for pair in pairs:
        is_known = pair["spearman"] is not None and not math.isnan(
            pair["spearman"]
        )  # NaN: all scores of a run are equal
        rank = f"{pair['spearman']:.3f}" if is_known else ""
        overlaps = (f"{pair['top_overlap'][share]:.1%}" if pair["top_overlap"] else "" for share in shares)
        lines.append([" and ".join(pair["runs"]), f"{pair['jaccard']:.3f}", rank, f"{pair['n_common']:,}", *overlaps])
    return lines


def composition_lines(comparison: Mapping[str, Any]) -> Lines:
    """Share of each data set in each selection."""
    names = [run["name"] for run in comparison["runs"]]
    shares = comparison["composition"].items()
    return [["data set", *names], *([dataset, *(f"{by_run[n]:.1%}" for n in names)] for dataset, by_run in shares)]


def length_lines(comparison: Mapping[str, Any]) -> Lines:
    """How many rows each run selected, and how long their answers are [characters]."""
    quartiles = ("25 %", "median", "75 %")
    lines = [["run", "selected", *quartiles]]
    for run in comparison["runs"]:
        lines.append([run["name"], f"{run['n_selected']:,}", *(f"{run[key]:,.0f}" for key in quartiles)])
    return lines


def comparison_tables(comparison: Mapping[str, Any]) -> Iterator[Table]:
    """What `compare` found, for a terminal."""
    for title, (header, *lines) in {
        "Agreement": agreement_lines(comparison),
        "Share of each data set": composition_lines(comparison),
        "Length of the answers [characters]": length_lines(comparison),
    }.items():
        table = new_table(title, *header)
        for line in lines:
            table.add_row(*map(Text, line))
        yield table
    examples = Table(title="First selected rows", title_justify="left", show_lines=True)
    for run in comparison["runs"]:
        examples.add_column(Text(run["name"]), ratio=1, overflow="fold")
    for rows in comparison["examples"]:
        examples.add_row(*(Text("" if row is None else _in_short(row)) for row in rows))
    yield examples


def _in_short(row: Row, *, n_characters: int = 300) -> str:
    text = "\n".join(f"{role}: {content}" for role, content in row.messages)
    return f"[{row.dataset}] {text[:n_characters]}{'…' if len(text) > n_characters else ''}"


def page_values(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """A comparison as the pages show it."""
    return {
        "names": [run["name"] for run in comparison["runs"]],
        "agreement": agreement_lines(comparison),
        "composition": composition_lines(comparison),
        "lengths": length_lines(comparison),
        "examples": comparison["examples"],
    }


def comparison_page(comparison: Mapping[str, Any]) -> str:
    """One self-contained HTML page; all text of rows is escaped."""
    return render("comparison.html", {"compared": page_values(comparison)})
