"""evaluate: base and tuned model on held-out rows of the target.

What a model answers is an artifact: all runs that judge the same model by the same rows share it.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from lessexp.data.rows import Row, read_rows
from lessexp.evaluation.answer_nll import ANSWER_NLL
from lessexp.evaluation.bootstrap import bootstrap
from lessexp.evaluation.leaks import QuestionIndex, is_held_out
from lessexp.files import written_whole
from lessexp.identity import Hashed
from lessexp.stages.answers import Answers, Tuned, read_answers
from lessexp.stages.experiment import Experiment
from lessexp.stages.progress import say


def _summaries(
    models: Mapping[str, Mapping[str, float]], rows: Sequence[Row], *, settings: Mapping[str, Any], seed: int
) -> dict[str, dict[str, Any]]:
    """Means and intervals of one metric for the base and the tuned model and for the change between them."""
    values: dict[str, list[tuple[float, float, float]]] = {}
    for row in rows:
        if row.example_id in models["base"]:
            base, tuned = (models[name][row.example_id] for name in ("base", "tuned"))
            values.setdefault(row.subtask, []).append((base, tuned, tuned - base))
    by_subtask = {subtask: np.array(found) for subtask, found in values.items()}
    intervals = bootstrap(by_subtask, seed=seed, **settings)
    summaries = {}
    for column, name in enumerate(("base", "tuned", "change")):
        means = {subtask: float(found[:, column].mean()) for subtask, found in by_subtask.items()}
        summaries[name] = {
            "mean": sum(means.values()) / len(means),
            "interval": intervals.mean[column].tolist(),
            "mean_of_rows": float(np.concatenate(list(by_subtask.values()))[:, column].mean()),
            "by_subtask": means,
            "interval_by_subtask": {name: ends[column].tolist() for name, ends in intervals.by_subtask.items()},
        }
    return summaries


def _subtasks_of_one_row(rows: Sequence[Row]) -> str | None:
    """A sentence on the subtasks whose intervals have no width, if there are any."""
    n_rows = Counter(row.subtask for row in rows)
    alone = [subtask for subtask, n in n_rows.items() if n == 1]
    if not alone:
        return None
    return (
        f"{len(alone)} of {len(n_rows)} subtasks, such as '{alone[0]}', have one test row: their intervals have no "
        "width, and that of the mean is too narrow"
    )


def _pool_leaks(experiment: Experiment) -> dict[str, int]:
    """List the pool rows that hold a test question in ``leaks.jsonl``, and warn of them."""
    settings = experiment.cfg.evaluation.leaks
    index = QuestionIndex(experiment.benchmark.questions(), ngram=settings.ngram, min_share=settings.pool_share)
    selected = {row.example_id for row in read_rows([experiment.selected_file])}
    found: set[str] = set()
    texts = ((row.example_id, (content for _, content in row.messages)) for row in experiment.pool)
    with written_whole(experiment.run_folder / "leaks.jsonl") as partial, partial.open("w", encoding="utf-8") as file:
        for leak in index.leaks(texts):
            found.add(leak.found_in)
            line = asdict(leak) | {"selected": leak.found_in in selected}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    if found:
        counts = f"{len(found)} of {len(experiment.pool)} pool rows ({len(found & selected)} of them selected)"
        say(f"warning: {counts} hold a test question, see leaks.jsonl")
    return {"pool": len(found), "selected": len(found & selected)}


def run(experiment: Experiment) -> dict[str, Any]:
    """Evaluate both models on the same rows, those with room for an answer; the predictions are written to a file."""
    cfg = experiment.cfg
    tokenized, unjudged = experiment.tokenized_benchmark_rows
    whole = {row.example_id: row for row in experiment.benchmark.rows()}
    judged = {row.example_id for row in tokenized}
    rows = [row for row in experiment.benchmark_rows if row.example_id in judged]
    leaks = _pool_leaks(experiment)
    if left_out := experiment.benchmark.left_out:
        say(f"{len(left_out)} test questions are left out, for solved examples give them away: {', '.join(left_out)}")
    n_shortened = sum(row != whole[row.example_id] for row in rows)
    if n_shortened:
        say(
            f"{n_shortened} of {len(rows)} test rows have fewer solved examples, "
            f"to fit evaluation.max_length={cfg.evaluation.max_length}"
        )
    asked = Answers(
        model=experiment.model.model,
        tuned=None,
        reader=experiment.reader_of(experiment.model, max_length=cfg.evaluation.max_length),
        benchmark=Hashed(experiment.benchmark),
        rows=Hashed(rows),
    )
    tuned = Tuned(experiment.tuning, experiment.tuned_folder)
    built = {one.kind: experiment.runtime.get(one) for one in (asked, replace(asked, tuned=tuned))}
    answers = {kind.removesuffix("_answers"): read_answers(one.folder) for kind, one in built.items()}
    scores = answers["tuned"][0]
    if sentence := _subtasks_of_one_row(rows):
        say(f"warning: {sentence}")
    path = experiment.run_folder / "predictions.jsonl"
    with written_whole(path) as partial, partial.open("w", encoding="utf-8") as file:
        for name, (_, predictions) in answers.items():
            for prediction in predictions:
                file.write(json.dumps({"model": name, **prediction}, ensure_ascii=False) + "\n")
    return {
        "held_out": is_held_out(rows, experiment.target),
        "leaks": leaks | {"left_out": len(left_out)},
        "n_shortened": n_shortened,
        "n_cut": len(experiment.benchmark.cut(rows, experiment.model, max_length=cfg.evaluation.max_length)),
        "metrics": {
            metric: _summaries(
                {name: found[metric] for name, (found, _) in answers.items()},
                rows,
                settings=cfg.evaluation.bootstrap,
                seed=cfg.seed,
            )
            for metric in scores
        },
        "higher_is_better": {
            metric: metric != ANSWER_NLL and experiment.benchmark.higher_is_better(metric) for metric in scores
        },
        "n_rows": len(rows),
        "not_judged": {row.example_id: row.reason for row in unjudged},
        "artifacts": built,
    }
