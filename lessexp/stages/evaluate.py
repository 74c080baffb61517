"""evaluate: base and tuned model on held-out rows of the target."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from torch import nn

from lessexp.data.rows import Row
from lessexp.evaluation.answer_nll import answer_nll
from lessexp.evaluation.base import Advance, Examinee, Prediction, mean_by_subtask
from lessexp.models.lora import copy_into, read_adapter
from lessexp.stages.cost import forward_flops
from lessexp.stages.experiment import Experiment
from lessexp.stages.progress import progress_bar


def _summary(by_subtask: dict[str, float]) -> dict[str, Any]:
    return {"mean": sum(by_subtask.values()) / len(by_subtask), "by_subtask": by_subtask}


def _examine(
    experiment: Experiment, model: nn.Module, rows: Sequence[Row], advance: Advance
) -> tuple[dict[str, Any], list[Prediction]]:
    examinee = Examinee(
        model=model,
        tokenizer=experiment.model.tokenizer,
        chat_format=experiment.model.chat_format,
        max_length=experiment.cfg.max_length,
        tokens_per_batch=experiment.cfg.evaluation.tokens_per_batch,
        advance=advance,
    )
    subtask_of = {row.example_id: row.subtask for row in rows}
    nll = answer_nll(examinee, rows)
    metrics = {"answer_nll": _summary(mean_by_subtask((subtask_of[name], nll[name]) for name in nll))}
    predictions = experiment.benchmark.judge(examinee, rows)
    if predictions:
        scores = mean_by_subtask((prediction.subtask, prediction.score) for prediction in predictions)
        metrics[experiment.benchmark.metric] = _summary(scores)
    return metrics, predictions


def run(experiment: Experiment) -> dict[str, Any]:
    """Evaluate both models; the predictions go to ``predictions.jsonl``."""
    rows = experiment.benchmark.rows()
    passes = 2 if experiment.benchmark.metric is None else 4
    model = experiment.model.load_with_adapter(seed=experiment.cfg.seed)
    metrics: dict[str, dict[str, Any]] = {}
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
                metrics.setdefault(metric, {})[name] = values
            for prediction in predictions:
                file.write(json.dumps({"model": name, **asdict(prediction)}, ensure_ascii=False) + "\n")
    tokenized, _ = experiment.tokenize(rows, experiment.model)
    n_tokens = passes * sum(len(row.input_ids) for row in tokenized)
    shown = {row.messages for row in experiment.target} & {row.messages for row in rows}
    return {
        "held_out": not shown,
        "metrics": metrics,
        "n_rows": len(rows),
        "flops": forward_flops(model.num_parameters(), n_tokens),
    }
