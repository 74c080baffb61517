import json

import pytest

from lessexp.data.rows import write_rows
from lessexp.stages import evaluate, finetune
from tests.conftest import make_rows


def test_training_on_the_target_lowers_its_answer_nll(make_experiment):
    experiment = make_experiment("selector=random", "finetune.training.epochs=4")
    write_rows(experiment.run_folder / "selected.jsonl", make_rows(8))
    finetune.run(experiment)
    nll = evaluate.run(experiment)["metrics"]["answer_nll"]
    assert list(nll["base"]["by_subtask"]) == ["sums", "words"]
    assert nll["base"]["mean"] == pytest.approx(sum(nll["base"]["by_subtask"].values()) / 2)
    assert nll["tuned"]["mean"] < nll["base"]["mean"] - 0.05


def test_the_benchmarks_own_metric_and_its_predictions_are_kept(make_experiment):
    experiment = make_experiment(
        "selector=random",
        "target=reasoning_gym",
        "benchmark.rows_per_family=3",
        "benchmark.max_new_tokens=3",
    )
    write_rows(experiment.run_folder / "selected.jsonl", make_rows(8))
    finetune.run(experiment)
    metrics = evaluate.run(experiment)["metrics"]
    assert list(metrics) == ["answer_nll", "score"]
    lines = (experiment.run_folder / "predictions.jsonl").read_text().splitlines()
    predictions = [json.loads(line) for line in lines]
    assert [line["model"] for line in predictions] == ["base"] * 6 + ["tuned"] * 6
    tuned = [line["score"] for line in predictions[6:9]]
    assert metrics["score"]["tuned"]["by_subtask"]["chain_sum"] == pytest.approx(sum(tuned) / 3)
