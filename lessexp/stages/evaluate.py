"""evaluate: base and tuned model on held-out rows of the target.

What the base model answers is an artifact: all runs that judge the same model by the same rows share it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from lessexp.artifacts import Artifact
from lessexp.data.rows import Row, fingerprint, read_rows
from lessexp.data.tokenize import lengths_of
from lessexp.evaluation.answer_nll import ANSWER_NLL, answer_nll
from lessexp.evaluation.base import Advance, Examinee
from lessexp.evaluation.bootstrap import bootstrap
from lessexp.evaluation.leaks import QuestionIndex, is_held_out
from lessexp.files import write_json, written_whole
from lessexp.stages.configuration import plain
from lessexp.stages.cost import forward_flops
from lessexp.stages.experiment import Experiment
from lessexp.stages.progress import progress_bar, say

Scores = Mapping[str, Mapping[str, float]]
"""Values of the rows by metric, then by example id."""


_ANSWERS = "answers.json"


def _examine(
    experiment: Experiment, model: nn.Module, rows: Sequence[Row], advance: Advance
) -> tuple[Scores, list[dict[str, Any]]]:
    """Scores, and the predictions as they are written to files."""
    examinee = Examinee(
        model=model,
        tokenizer=experiment.model.tokenizer,
        chat_format=experiment.model.chat_format,
        max_length=experiment.cfg.evaluation.max_length,
        tokens_per_batch=experiment.cfg.evaluation.tokens_per_batch,
        advance=advance,
    )
    scores: dict[str, dict[str, float]] = {ANSWER_NLL: answer_nll(examinee, rows)}
    predictions = experiment.benchmark.judge(examinee, rows)
    for prediction in predictions:
        by_metric = {experiment.benchmark.metric: prediction.score, **prediction.further_scores}
        for metric, score in by_metric.items():
            scores.setdefault(metric, {})[prediction.example_id] = score
    return scores, [asdict(prediction) for prediction in predictions]


def _base_fields(experiment: Experiment, rows: Sequence[Row]) -> dict[str, Any]:
    """All that determines what the base model answers."""
    cfg = experiment.cfg
    return {
        "format": 1,
        "model": experiment.model.identity,
        "chat_format": plain(cfg.chat_format),
        "max_length": cfg.evaluation.max_length,
        "benchmark": plain(cfg.benchmark),
        "rows": fingerprint(rows),
    }


def _base_answers(
    experiment: Experiment, model: nn.Module, rows: Sequence[Row], advance: Advance, flops: float
) -> Artifact:
    """Ask the base model, or take what it answered before."""

    def build(folder: Path) -> dict[str, Any]:
        # Before training the model that is tuned is the base model; a fresh adapter changes nothing.
        scores, predictions = _examine(experiment, model, rows, advance)
        write_json(folder / _ANSWERS, {"scores": scores, "predictions": predictions})
        return {"n_rows": len(rows), "flops": flops}

    return experiment.shelf.build("base_answers", _base_fields(experiment, rows), build)


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
    """Evaluate both models; the predictions go to ``predictions.jsonl``."""
    cfg = experiment.cfg
    rows = experiment.benchmark_rows
    leaks = _pool_leaks(experiment)
    if left_out := experiment.benchmark.left_out:
        say(f"{len(left_out)} test questions are left out, for solved examples give them away: {', '.join(left_out)}")
    n_shortened = sum(fitted != whole for fitted, whole in zip(rows, experiment.benchmark.rows(), strict=True))
    if n_shortened:
        say(
            f"{n_shortened} of {len(rows)} test rows have fewer solved examples, "
            f"to fit evaluation.max_length={cfg.evaluation.max_length}"
        )
    model = experiment.tuning.base(experiment.model, seed=cfg.seed)
    tokenized, _ = experiment.tokenized_benchmark_rows
    passes = 1 if experiment.benchmark.metric is None else 2
    flops = forward_flops(model.num_parameters(), passes * int(lengths_of(tokenized).sum()))
    with progress_bar("evaluation of the base model", total=passes * len(rows)) as advance:
        base = _base_answers(experiment, model, rows, advance, flops)
    answers = {"base": json.loads((base.folder / _ANSWERS).read_text(encoding="utf-8"))}
    model = experiment.tuning.tuned(model, experiment.model, experiment.tuned_folder)
    with progress_bar("evaluation of the tuned model", total=passes * len(rows)) as advance:
        scores, predictions = _examine(experiment, model, rows, advance)
    answers["tuned"] = {"scores": scores, "predictions": predictions}
    path = experiment.run_folder / "predictions.jsonl"
    with written_whole(path) as partial, partial.open("w", encoding="utf-8") as file:
        for name, given in answers.items():
            for prediction in given["predictions"]:
                file.write(json.dumps({"model": name, **prediction}, ensure_ascii=False) + "\n")
    return {
        "held_out": is_held_out(rows, experiment.target),
        "leaks": leaks | {"left_out": len(left_out)},
        "n_shortened": n_shortened,
        "metrics": {
            metric: _summaries(
                {name: given["scores"][metric] for name, given in answers.items()},
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
        "flops": flops,
        "artifacts": {"base_answers": base},
    }
