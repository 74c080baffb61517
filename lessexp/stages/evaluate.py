"""evaluate: base and tuned model on held-out rows of the target."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from torch import nn

from lessexp.data.rows import Row, read_rows
from lessexp.evaluation.answer_nll import answer_nll
from lessexp.evaluation.base import Advance, Examinee, Prediction
from lessexp.evaluation.bootstrap import bootstrap
from lessexp.evaluation.leaks import QuestionIndex, is_held_out
from lessexp.models.lora import copy_into, read_adapter
from lessexp.stages.cost import forward_flops
from lessexp.stages.experiment import Experiment
from lessexp.stages.progress import progress_bar, say

Scores = Mapping[str, Mapping[str, float]]
"""Values of the rows by metric, then by example id."""


def _examine(
    experiment: Experiment, model: nn.Module, rows: Sequence[Row], advance: Advance
) -> tuple[Scores, list[Prediction]]:
    examinee = Examinee(
        model=model,
        tokenizer=experiment.model.tokenizer,
        chat_format=experiment.model.chat_format,
        max_length=experiment.cfg.max_length,
        tokens_per_batch=experiment.cfg.evaluation.tokens_per_batch,
        advance=advance,
    )
    scores: dict[str, dict[str, float]] = {"answer_nll": answer_nll(examinee, rows)}
    predictions = experiment.benchmark.judge(examinee, rows)
    for prediction in predictions:
        by_metric = {experiment.benchmark.metric: prediction.score, **prediction.further_scores}
        for metric, score in by_metric.items():
            scores.setdefault(metric, {})[prediction.example_id] = score
    return scores, predictions


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
    with (experiment.run_folder / "leaks.jsonl").open("w", encoding="utf-8") as file:
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
        say(f"{n_shortened} of {len(rows)} test rows have fewer solved examples, to fit max_length={cfg.max_length}")
    passes = 2 if experiment.benchmark.metric is None else 4
    model = experiment.model.load_with_adapter(seed=cfg.seed)
    scores: dict[str, dict[str, Mapping[str, float]]] = {}
    with (
        progress_bar("evaluation", total=passes * len(rows)) as advance,
        (experiment.run_folder / "predictions.jsonl").open("w", encoding="utf-8") as file,
    ):
        # A fresh adapter changes nothing, so the same object serves as the base model.
        for name in ("base", "tuned"):
            if name == "tuned":
                copy_into(model, read_adapter(experiment.adapter_folder))
            found, predictions = _examine(experiment, model, rows, advance)
            for metric, values in found.items():
                scores.setdefault(metric, {})[name] = values
            for prediction in predictions:
                file.write(json.dumps({"model": name, **asdict(prediction)}, ensure_ascii=False) + "\n")
    tokenized, _ = experiment.tokenize(rows, experiment.model)
    n_tokens = passes * sum(len(row.input_ids) for row in tokenized)
    return {
        "held_out": is_held_out(rows, experiment.target),
        "leaks": leaks | {"left_out": len(left_out)},
        "n_shortened": n_shortened,
        "metrics": {
            metric: _summaries(models, rows, settings=cfg.evaluation.bootstrap, seed=cfg.seed)
            for metric, models in scores.items()
        },
        "n_rows": len(rows),
        "flops": forward_flops(model.num_parameters(), n_tokens),
    }
