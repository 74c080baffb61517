"""``report.html``: all that a run did on one page, from the files in its folder."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64

from lessexp.data.rows import Row
from lessexp.reports.charts import Chart, bars_chart, histogram_chart, number, points_chart
from lessexp.reports.checkpoints import CHECKPOINT_SCORES, checkpoint_agreement
from lessexp.reports.distributions import (
    even_edges,
    histogram,
    length_edges,
    length_groups,
    rank_correlation,
    sample_of,
)
from lessexp.reports.listing import (
    RunScores,
    best_places,
    ranks_to_list,
    read_listed,
    read_scores,
    selected_places,
)
from lessexp.reports.page import render
from lessexp.reports.predictions import NO_PREDICTIONS, read_predictions
from lessexp.reports.reproduction import read_reproduction
from lessexp.reports.tables import COMPOSITION_HEADER, COST_HEADER, composition_lines, cost_lines, figure
from lessexp.selection.top_k import rows_won

PAGE_FILE = "report.html"
TARGET_FILE = "target.jsonl"

# What a browser shows at once without effort.
_N_ROWS = 500
_N_QUESTIONS = 100
_N_DATASETS = 200
_N_DATASETS_DRAWN = 15
_N_SUBTASKS_WITH_EXAMPLES = 12
_BEST = ("best selected row", "second", "third")
_N_BINS = 24
_N_LENGTH_GROUPS = 5
_N_POINTS = {"pool": 1200, "selected": 400}


def run_page(
    run_folder: Path,
    results: Mapping[str, Any],
    *,
    lengths: Mapping[str, int],
    target: Sequence[Row],
    questions: Mapping[str, str],
) -> str:
    """The page of a run.

    Args:
        run_folder: holds the files of its stages.
        results: what ``results.json`` will hold.
        lengths: of the answers of all scored rows, by id [characters].
        target: the rows that show the wanted skill.
        questions: of the benchmark, by id.
    """
    scores = read_scores(run_folder)
    places = selected_places(run_folder, scores)
    predictions = NO_PREDICTIONS
    if results["metrics"]:
        predictions = read_predictions(run_folder / "predictions.jsonl", questions, n_listed=_N_QUESTIONS)
    values = {
        "title": f"{results['selector']} for {results['task']}, {results['model']}, seed {results['seed']}",
        "facts": facts(results),
        "target_counts": [[name, str(n)] for name, n in Counter(row.subtask for row in target).items()],
        "metric_header": ["", "base", "tuned", "change"],
        "metric_lines": metric_lines(results["metrics"]),
        "predictions": predictions,
        "prediction_groups": {one.subtask: one.subtask for one in predictions.listed},
        "cost_header": COST_HEADER,
        "cost_lines": cost_lines(results["stages"]),
        "reproduction": read_reproduction(run_folder, results),
        "versions": [list(pair) for pair in results["versions"].items()],
        "commit": results["git_commit"],
        "checkpoints": _checkpoints(run_folder, len(places)),
    }
    values |= {key: results[key] for key in ("task", "model", "held_out")}
    values |= {key: results["selection"][key] for key in ("n_pool", "n_selected")}
    values |= _composition(results["selection"])
    values |= _selected(run_folder, scores, places, target)
    values |= _spread(scores, places, lengths)
    return render("run.html", values)


def facts(results: Mapping[str, Any]) -> dict[str, str]:
    """What a reader wants to know first, by name."""
    selection = results["selection"]
    n_pool, n_selected = selection["n_pool"], selection["n_selected"]
    found = {
        "selector": results["selector"],
        "model": results["model"],
        "selecting model": results["selection_model"],
        "target": results["task"],
        "seed": str(results["seed"]),
        "pool": f"{n_pool:,} rows",
        "selected": f"{n_selected:,} rows ({100 * n_selected / n_pool:.3g} % of the pool)",
        "not scored": f"{selection['n_excluded']:,} rows, {selection['n_copies']:,} of them copies",
    }
    if selection["precision"] is not None:
        found["selected rows of a wanted data set"] = (
            f"{selection['precision']:.1%} (random choice: {selection['pool_share']:.1%})"
        )
    for metric, models in results["metrics"].items():
        found[f"{metric}, base to tuned"] = " to ".join(figure(models[name]["mean"]) for name in ("base", "tuned"))
    test_rows = results.get("test_rows", {"not_judged": 0})  # older runs did not count them
    if test_rows["not_judged"]:
        found["test rows"] = (
            f"{test_rows['judged']:,} judged, {test_rows['not_judged']:,} without room for their answer"
        )
    if leaks := results.get("leaks"):  # older runs did not look for any
        found["rows that hold a test question"] = f"{leaks['pool']:,} in the pool, {leaks['selected']:,} selected"
    return found | {"time": f"{sum(stage['seconds'] for stage in results['stages'].values()):,.0f} s"}


def metric_lines(metrics: Mapping[str, Any]) -> list[list[str]]:
    """Name, base, tuned and change of every metric: its means, then its subtasks; with intervals where there are."""
    lines = []
    for metric, models in metrics.items():
        base, tuned = models["base"], models["tuned"]
        change = models.get("change", {"mean": tuned["mean"] - base["mean"]})
        ends = [one.get("interval") for one in (base, tuned, change)]
        lines.append([f"{metric}, mean of subtasks", *_with_ends([base["mean"], tuned["mean"]], ends)])
        subtasks = base["by_subtask"]
        if "mean_of_rows" in base and len(subtasks) > 1:
            both = [base["mean_of_rows"], tuned["mean_of_rows"]]
            lines.append([f"{metric}, mean of rows", *_with_ends(both, [None] * 3)])
        for subtask in subtasks:
            ends = [one.get("interval_by_subtask", {}).get(subtask) for one in (base, tuned, change)]
            both = [base["by_subtask"][subtask], tuned["by_subtask"][subtask]]
            lines.append([f"{metric}, {subtask}", *_with_ends(both, ends)])
    return lines


def _with_ends(both: Sequence[float], ends: Sequence[Sequence[float] | None]) -> list[str]:
    base, tuned = both
    texts = [figure(base), figure(tuned), figure(tuned - base, "+.3f")]
    return [
        f"{text} [{figure(end[0])}, {figure(end[1])}]" if end else text for text, end in zip(texts, ends, strict=True)
    ]


def _composition(selection: Mapping[str, Any]) -> dict[str, Any]:
    by_dataset = selection["by_dataset"]
    lines = composition_lines(selection)
    largest = sorted(by_dataset.items(), key=lambda item: -item[1]["selected"])[:_N_DATASETS_DRAWN]
    title = "Share of each data set"
    if len(largest) < len(by_dataset):
        title += f", the {len(largest)} largest of {len(by_dataset):,} in the selection"
    return {
        "composition_header": ["data set", *COMPOSITION_HEADER[1:]],
        "composition_lines": lines[:_N_DATASETS],
        "n_datasets_left_out": max(0, len(lines) - _N_DATASETS),
        "marked": [f"{dataset} (wanted)" for dataset, share in by_dataset.items() if share["wanted"]],
        "composition_chart": bars_chart(
            "shares",
            title,
            {dataset: (share["pool"], share["selected"]) for dataset, share in largest},
            names=("the pool", "the selection"),
        ),
    }


def _selected(
    run_folder: Path, scores: RunScores, places: Int64[np.ndarray, " n_selected"], target: Sequence[Row]
) -> dict[str, Any]:
    by_subtask = scores.by_subtask[places]
    datasets = [scores.datasets[place] for place in places]
    listed = ranks_to_list(by_subtask, datasets, n_rows=_N_ROWS)
    shown = scores.subtasks[:_N_SUBTASKS_WITH_EXAMPLES]
    best = {name: best_places(by_subtask[:, column], n=len(_BEST)) for column, name in enumerate(shown)}
    needed = sorted({*listed, *(place for found in best.values() for place in found)})
    rows = dict(zip(needed, read_listed(run_folder, scores, places, needed), strict=True))
    first_of = {row.subtask: row for row in reversed(target)}
    won = rows_won(torch.from_numpy(by_subtask)).tolist()
    n_of = Counter(rows[place].row.dataset for place in listed)
    return {
        "subtasks": scores.subtasks,
        "listed": [rows[place] for place in listed],
        "row_groups": {dataset: f"{dataset} ({n:,})" for dataset, n in sorted(n_of.items())},
        "examples": [
            {
                "subtask": name,
                "names": ["a row of the target", *_BEST[: len(found)]],
                "rows": [first_of.get(name), *(rows[place].row for place in found)],
            }
            for name, found in best.items()
        ],
        "winners": [
            [name, f"{n:,}", f"{n / len(places):.1%}"]
            for n, name in sorted(zip(won, scores.subtasks, strict=True), key=lambda pair: -pair[0])
            if n
        ],
    }


def _spread(scores: RunScores, places: Int64[np.ndarray, " n_selected"], lengths: Mapping[str, int]) -> dict[str, Any]:
    of_rows = np.array([lengths[example_id] for example_id in scores.example_ids], dtype=np.int64)
    is_selected = np.zeros(len(of_rows), dtype=bool)
    is_selected[places] = True
    rank = rank_correlation(of_rows, scores.score)
    scored = histogram(
        {"pool": scores.score, "selected": scores.score[places]}, even_edges(scores.score, n_bins=_N_BINS)
    )
    sized = histogram({"pool": of_rows, "selected": of_rows[places]}, length_edges(of_rows, n_bins=_N_BINS))
    unknown = "All rows have the same score, or answers of the same length."
    known = f"Rank correlation (Spearman) of score and answer length over all scored rows: {rank or 0:.3f}."
    return {
        "correlation": unknown if rank is None else known,
        "spread_charts": [
            histogram_chart("scores", "Scores", scored, caption="score"),
            histogram_chart("lengths", "Lengths of the answers", sized, caption="answer [characters]"),
            _score_against_length(scores, of_rows, is_selected),
        ],
    }


def _score_against_length(
    scores: RunScores, lengths: Int64[np.ndarray, " n"], is_selected: Bool[np.ndarray, " n"]
) -> Chart:
    rng = np.random.default_rng(0)  # which rows are drawn as points decides no number
    points = {}
    for group, among in (("pool", np.isfinite(scores.score)), ("selected", is_selected & np.isfinite(scores.score))):
        where = np.flatnonzero(among)
        kept = where[sample_of(len(where), n_sampled=_N_POINTS[group], rng=rng)]
        points[group] = (lengths[kept], scores.score[kept])
    groups = length_groups(lengths, scores.score, is_selected, n=_N_LENGTH_GROUPS)
    n_drawn = {name: len(x) for name, (x, _) in points.items()}
    return points_chart(
        "points",
        "Score against length",
        points,
        captions=("answer [characters]", "score"),
        table=(
            ["answer [characters]", "rows", "median score", "selected"],
            [
                [
                    f"{one.shortest:,} to {one.longest:,}",
                    f"{one.n_rows:,}",
                    number(one.median_score),
                    f"{one.n_selected:,}",
                ]
                for one in groups
            ],
        ),
        description=f"{n_drawn['pool']:,} of {len(lengths):,} scored rows and {n_drawn['selected']:,} of "
        f"{int(is_selected.sum()):,} selected rows: answer length across, on a logarithmic scale, score upwards. "
        "The table below has all rows in groups of one length.",
    )


def _checkpoints(run_folder: Path, n_selected: int) -> dict[str, Any] | None:
    file = run_folder / CHECKPOINT_SCORES
    if not file.is_file():  # a selector without gradients
        return None
    found = checkpoint_agreement(file, k=n_selected)

    def lines(matrix: Any, form: str) -> list[list[str]]:
        cells = [["" if value != value else format(value, form) for value in line] for line in matrix.tolist()]
        return [[name, *line] for name, line in zip(found.names, cells, strict=True)]

    return {
        "names": found.names,
        "k": found.k,
        "spearman": lines(found.spearman, ".3f"),
        "top_overlap": lines(found.top_overlap, ".1%"),
    }
