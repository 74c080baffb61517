"""``report.html`` of a sweep: its settings side by side, from the folders of its runs."""

import itertools
import os
import statistics
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lessexp.data.record_files import read_records
from lessexp.data.rows import read_rows
from lessexp.reports.charts import Chart, histogram_chart
from lessexp.reports.comparison import compare, page_values, read_selection
from lessexp.reports.distributions import even_edges, histogram
from lessexp.reports.listing import read_scores, selected_places
from lessexp.reports.measures import qualities, seconds_as_if_built
from lessexp.reports.page import render
from lessexp.reports.reproduction import Reproduction, read_reproduction
from lessexp.reports.run_page import PAGE_FILE, TARGET_FILE, metric_lines
from lessexp.reports.runs import SweepRun
from lessexp.reports.settings import by_label
from lessexp.reports.tables import figure

_N_SETTINGS = 12  # compared side by side; every two of them are compared
_N_EXAMPLES = 5
_N_BINS = 24


def sweep_page(runs: Sequence[SweepRun], *, page_folder: Path, table: Sequence[Sequence[str]]) -> str:
    """The page of many runs.

    Runs that differ in their seed alone are one setting; side by side stands the run of its lowest seed.

    Args:
        runs: whose places are their folders.
        page_folder: where the page will lie; it links to the runs from there.
        table: header and lines of a table to begin with; empty for none.
    """
    settings = by_setting(runs)
    targets: dict[str, dict[str, list[SweepRun]]] = {}
    for label, same in settings.items():
        targets.setdefault(same[0].results["task"], {})[label] = same
    commits = {run.results["git_commit"] for run in runs}
    versions = {tuple(run.results["versions"].items()) for run in runs}
    return render(
        "sweep.html",
        {
            "n_runs": len(runs),
            "table": [list(line) for line in table],
            "run_lines": [_run_line(label, run, page_folder) for label, same in settings.items() for run in same],
            "targets": [_target(place, task, labelled) for place, (task, labelled) in enumerate(targets.items())],
            "costs": _cost_lines(settings),
            "reproductions": {
                f"{label}, seed {run.results['seed']}": _command(read_reproduction(Path(run.place), run.results))
                for label, same in settings.items()
                for run in same
            },
            "commits": sorted(commit or "not known" for commit in commits),
            "versions": sorted({pair for pairs in versions for pair in pairs}),
        },
    )


def _command(how: Reproduction | None) -> str:
    return "not started by run.py" if how is None else how.command


def by_setting(runs: Sequence[SweepRun]) -> dict[str, list[SweepRun]]:
    """Runs by setting, and by task where there are several; each setting's by rising seed."""
    tasks = list(dict.fromkeys(run.results["task"] for run in runs))
    grouped: dict[str, list[SweepRun]] = {}
    for label, same in by_label(runs).items():
        for run in same:
            task = run.results["task"]
            grouped.setdefault(label if len(tasks) == 1 else f"{label} on {task}", []).append(run)
    return {label: sorted(same, key=lambda run: run.results["seed"]) for label, same in grouped.items()}


def seed_agreement(runs: Sequence[SweepRun]) -> float | None:
    """Mean Jaccard index of what every two seeds of a setting selected; None for a single seed."""
    chosen = [{record["id"] for _, record in read_records([Path(run.place) / "selected.jsonl"])} for run in runs]
    pairs = list(itertools.combinations(chosen, 2))
    return statistics.mean(len(a & b) / len(a | b) for a, b in pairs) if pairs else None


def _run_line(label: str, run: SweepRun, page_folder: Path) -> dict[str, Any]:
    page = Path(run.place) / PAGE_FILE
    relative = Path(os.path.relpath(page.resolve(), page_folder.resolve())).as_posix()
    selection = run.results["selection"]
    figures = {measure.name: figure(value) for measure, value in qualities(run.results).items()}
    return {
        "label": label,
        "link": urllib.parse.quote(relative) if page.is_file() else None,
        "seed": run.results["seed"],
        "cells": {
            "target": run.results["task"],
            "selected": f"{selection['n_selected']:,} of {selection['n_pool']:,}",
        }
        | figures,
    }


def _target(place: int, task: str, labelled: dict[str, list[SweepRun]]) -> dict[str, Any]:
    """Settings with one target side by side."""
    first = {label: same[0] for label, same in itertools.islice(labelled.items(), _N_SETTINGS)}
    selections = [read_selection(Path(run.place), label) for label, run in first.items()]
    target_file = Path(next(iter(first.values())).place) / TARGET_FILE
    target = read_rows([target_file], is_target=True) if target_file.is_file() else []  # older runs kept none
    compared = page_values(compare(selections, n_examples=_N_EXAMPLES))
    agreements = {label: seed_agreement(same) for label, same in labelled.items()}
    return {
        "task": task,
        "n_left_out": len(labelled) - len(first),
        "compared": compared | {"composition": with_pools(compared["composition"], first)},
        "target_rows": list({row.subtask: row for row in reversed(target)}.values())[::-1][:_N_EXAMPLES],
        "seeds": [
            [label, str(len(same)), "" if agreements[label] is None else f"{agreements[label]:.3f}"]
            for label, same in labelled.items()
        ],
        "charts": [
            _score_chart(f"scores-{place}-{number}", label, run) for number, (label, run) in enumerate(first.items())
        ],
        "metrics": {label: metric_lines(run.results["metrics"]) for label, run in first.items()},
    }


def with_pools(lines: list[list[str]], first: dict[str, SweepRun]) -> list[list[str]]:
    """The composition of selections with that of their pools before them; a pool that many share stands once.

    Args:
        lines: header, then a line for each data set that occurs in a selection.
        first: runs by the label of their setting.
    """
    pools: dict[str, dict[str, float]] = {}
    for label, run in first.items():
        pool = {dataset: share["pool"] for dataset, share in run.results["selection"]["by_dataset"].items()}
        if pool not in pools.values():
            pools[f"pool of {label}"] = pool
    names = ["pool"] if len(pools) == 1 else list(pools)
    header, *rest = lines
    unselected = dict.fromkeys(dataset for pool in pools.values() for dataset in pool)
    for line in rest:
        unselected.pop(line[0], None)
    rest += [[dataset, *["0.0%"] * (len(header) - 1)] for dataset in unselected]
    shares = ([f"{pool.get(line[0], 0):.1%}" for pool in pools.values()] for line in rest)
    return [
        [header[0], *names, *header[1:]],
        *([line[0], *of, *line[1:]] for line, of in zip(rest, shares, strict=True)),
    ]


def _score_chart(name: str, label: str, run: SweepRun) -> Chart:
    scores = read_scores(Path(run.place))
    chosen = scores.score[selected_places(Path(run.place), scores)]
    edges = even_edges(scores.score, n_bins=_N_BINS)
    counted = histogram({"pool": scores.score, "selected": chosen}, edges)
    return histogram_chart(name, label, counted, caption="score")


def _cost_lines(settings: dict[str, list[SweepRun]]) -> list[list[str]]:
    """Seconds of each stage, of each setting's run with the lowest seed, what it reused as if it had been built."""
    first = {label: same[0].results["stages"] for label, same in settings.items()}
    stages = list(dict.fromkeys(stage for record in first.values() for stage in record))
    lines = [["setting", *stages, "all"]]
    for label, record in first.items():
        seconds = {name: seconds_as_if_built(stage) for name, stage in record.items()}
        cells = [f"{seconds[name]:,.1f}" if name in seconds else "" for name in stages]
        lines.append([label, *cells, f"{sum(seconds.values()):,.1f}"])
    return lines
