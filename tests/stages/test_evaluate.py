import json
from dataclasses import replace

import pytest
from peft import PeftModel

from lessexp.data.rows import write_rows
from lessexp.data.tokenize import collate
from lessexp.errors import ExperimentError
from lessexp.evaluation.answer_nll import answer_nll
from lessexp.models.causal_lm import load_causal_lm, per_example_loss
from lessexp.stages import answers, evaluate, finetune
from tests.conftest import make_rows, write_lines


def test_training_on_the_target_lowers_its_answer_nll(make_experiment):
    experiment = make_experiment("selector=random", "finetune.training.epochs=4")
    write_rows(experiment.run_folder / "selected.jsonl", make_rows(8))
    finetune.run(experiment)
    nll = evaluate.run(experiment)["metrics"]["answer_nll"]
    assert list(nll["base"]["by_subtask"]) == ["sums", "words"]
    assert nll["base"]["mean"] == pytest.approx(sum(nll["base"]["by_subtask"].values()) / 2)
    assert nll["tuned"]["mean"] < nll["base"]["mean"] - 0.05


def test_a_model_trained_with_dropout_is_judged_without(make_experiment, model_folder):
    settings = ["lora.dropout=0.5", "finetune.training.learning_rate=0.02", "model.dtype=float32"]
    experiment = make_experiment("selector=random", *settings)
    write_rows(experiment.run_folder / "selected.jsonl", make_rows(8))
    finetune.run(experiment)
    by_subtask = evaluate.run(experiment)["metrics"]["answer_nll"]["tuned"]["by_subtask"]
    # For peft, an adapter that is loaded is for use: in evaluation mode.
    base = load_causal_lm(model_folder, dtype="float32", device="cpu")
    model = PeftModel.from_pretrained(base, experiment.run_folder / "adapter")
    rows, _ = experiment.tokenized_benchmark_rows
    subtask_of = {row.example_id: row.subtask for row in experiment.benchmark_rows}
    nll = {name: [] for name in by_subtask}
    for row in rows:
        nll[subtask_of[row.example_id]].append(per_example_loss(model, collate([row], pad_token_id=1)).item())
    # Alone or in a batch differ by rounding; dropout moves it by a hundredth.
    assert by_subtask == pytest.approx({name: sum(found) / len(found) for name, found in nll.items()}, rel=1e-4)


def test_an_adapter_gets_the_same_numbers_each_time_it_is_judged(make_experiment, tmp_path):
    settings = ["selector=random", "lora.dropout=0.3", "target=reasoning_gym", "benchmark.rows_per_family=1"]
    experiment = make_experiment(*settings, "benchmark.max_new_tokens=3")
    write_rows(experiment.run_folder / "selected.jsonl", make_rows(8))
    finetune.run(experiment)
    # The base model answers anew, then its answers are reused, then it answers anew in another place.
    elsewhere = make_experiment(*settings, "benchmark.max_new_tokens=3", f"artifacts_dir={tmp_path / 'elsewhere'}")
    first, again, other = (evaluate.run(one) for one in (experiment, experiment, elsewhere))
    assert [found["artifacts"]["base_answers"].reused for found in (first, again, other)] == [False, True, False]
    assert first["metrics"] == again["metrics"] == other["metrics"]


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


def test_the_base_model_is_asked_once_for_all_runs_of_the_same_rows(make_experiment, monkeypatch):
    asked = []
    monkeypatch.setattr(answers, "answer_nll", lambda *given: asked.append(given) or answer_nll(*given))
    records = {}
    settings = ("target=reasoning_gym", "benchmark.rows_per_family=3", "benchmark.max_new_tokens=3")
    for run, *overrides in (
        ("first", "selector=random"),
        ("second", "selector=length", "finetune.training.epochs=2"),
        ("longer", "selector=random", "benchmark.max_new_tokens=4"),
    ):
        experiment = make_experiment(*settings, *overrides, run=run)
        write_rows(experiment.run_folder / "selected.jsonl", make_rows(8))
        finetune.run(experiment)
        records[run] = (evaluate.run(experiment), len(asked))
        asked.clear()
    assert [n for _, n in records.values()] == [2, 1, 2]
    first, second = (records[run][0]["metrics"] for run in ("first", "second"))
    for metric in first:
        assert first[metric]["base"]["by_subtask"] == second[metric]["base"]["by_subtask"]
    assert first["answer_nll"]["tuned"] != second["answer_nll"]["tuned"]


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_two_metrics_with_paired_intervals_and_fewer_examples_where_they_do_not_fit(make_experiment, tmp_path):
    def passage(index, split):
        text = f"{split} {index} {'word ' * (3 * index)}"
        answers = [f"number {index}"]
        return {"lang": ("korean", "finnish")[index % 2], "context": text, "question": "?", "answers": answers}

    dev = write_lines(tmp_path / "dev.jsonl", *(passage(index, "dev") | {"id": str(index)} for index in range(2)))
    test = write_lines(tmp_path / "test.jsonl", *(passage(index, "test") | {"id": str(index)} for index in range(9)))
    settings = [f"target.path={dev}", f"benchmark.path={test}", "benchmark.max_new_tokens=4", "max_length=160"]
    experiment = make_experiment("selector=random", "target=tydiqa", *settings, "evaluation.bootstrap.n_resamples=50")
    write_rows(experiment.run_folder / "selected.jsonl", make_rows(8))
    finetune.run(experiment)
    record = evaluate.run(experiment)
    assert 0 < record["n_shortened"] < 9
    assert record["n_cut"] == 0
    assert list(record["metrics"]) == ["answer_nll", "f1", "exact_match"]
    lines = read_lines(experiment.run_folder / "predictions.jsonl")
    assert set(lines[0]["further_scores"]) == {"exact_match"}
    nll = record["metrics"]["answer_nll"]
    for model in ("base", "tuned", "change"):
        assert nll[model]["interval"][0] < nll[model]["mean"] < nll[model]["interval"][1]
        # Four Finnish and five Korean rows.
        by_subtask = nll[model]["by_subtask"]
        assert nll[model]["mean_of_rows"] == pytest.approx((4 * by_subtask["finnish"] + 5 * by_subtask["korean"]) / 9)
        assert set(nll[model]["interval_by_subtask"]) == set(by_subtask) == {"finnish", "korean"}
    assert nll["change"]["mean"] == pytest.approx(nll["tuned"]["mean"] - nll["base"]["mean"])


def test_pool_rows_that_hold_a_test_question_are_listed_and_counted(make_experiment, tmp_path):
    write_rows(tmp_path / "test.jsonl", make_rows(9, prefix="test", target=True)[6:])
    experiment = make_experiment("selector=random", f"benchmark.path={tmp_path / 'test.jsonl'}")
    write_rows(experiment.run_folder / "selected.jsonl", make_rows(8))
    finetune.run(experiment)
    assert evaluate.run(experiment)["leaks"] == {"pool": 3, "selected": 2, "left_out": 0}
    assert read_lines(experiment.run_folder / "leaks.jsonl") == [
        {"found_in": f"row-00{index}", "question": f"test-00{index}", "share": 1.0, "selected": index < 8}
        for index in (6, 7, 8)
    ]


def test_intervals_without_width_are_announced(make_experiment, tmp_path, capsys):
    write_rows(tmp_path / "test.jsonl", make_rows(3, prefix="test", target=True))  # two of sums, one of words
    experiment = make_experiment("selector=random", f"benchmark.path={tmp_path / 'test.jsonl'}")
    write_rows(experiment.run_folder / "selected.jsonl", make_rows(8))
    finetune.run(experiment)
    evaluate.run(experiment)
    said = capsys.readouterr().out
    assert "warning: 1 of 2 subtasks, such as 'words', have one test row: their intervals have no width" in said


LONG = "word " * 300


def write_target(path, *lengths):
    """Rows of two subtasks in turn; those of a length above 0 leave no room for their answer."""
    rows = make_rows(6 + len(lengths), prefix="test", target=True)[6:]  # other ones than the target's
    rows = [
        replace(row, messages=(("user", row.messages[0][1] + LONG * is_long), row.messages[1]))
        for row, is_long in zip(rows, lengths, strict=True)
    ]
    write_rows(path, rows)
    return [row.example_id for row in rows]


def test_test_rows_without_room_for_an_answer_are_said_counted_and_listed(
    make_experiment, tmp_path, capsys, monkeypatch
):
    ids = write_target(tmp_path / "test.jsonl", 0, 0, 1, 0, 1, 1)
    experiment = make_experiment("selector=random", f"benchmark.path={tmp_path / 'test.jsonl'}")
    said = capsys.readouterr().out
    assert (
        "3 of 6 test rows cannot be judged and are left out, see stages/evaluate.json; the first, 'test-008': " in said
    )
    asked = []
    monkeypatch.setattr(answers, "answer_nll", lambda *given: asked.append(given[1]) or answer_nll(*given))
    write_rows(experiment.run_folder / "selected.jsonl", make_rows(8))
    finetune.run(experiment)
    record = evaluate.run(experiment)
    assert record["n_rows"] == 3
    assert list(record["not_judged"]) == [ids[2], ids[4], ids[5]]
    assert all("within max_length=200" in reason for reason in record["not_judged"].values())
    base, tuned = asked
    assert [row.example_id for row in base] == [row.example_id for row in tuned] == [ids[0], ids[1], ids[3]]
    assert list(record["metrics"]["answer_nll"]["base"]["by_subtask"]) == ["sums", "words"]


def test_a_subtask_without_a_row_that_can_be_judged_is_refused_before_anything_is_computed(make_experiment, tmp_path):
    write_target(tmp_path / "test.jsonl", 0, 1, 0, 1)
    with pytest.raises(ExperimentError) as refused:
        make_experiment("selector=random", f"benchmark.path={tmp_path / 'test.jsonl'}")
    assert str(refused.value).startswith("no test row of 'words' can be judged; the first, 'test-007': no token of its")
    assert str(refused.value).endswith("; raise evaluation.max_length=200, or take 'words' out of the benchmark")
    make_experiment("selector=random", f"benchmark.path={tmp_path / 'test.jsonl'}", "evaluation.max_length=2000")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_no_result(make_experiment, monkeypatch, value):
    experiment = make_experiment("selector=random")
    write_rows(experiment.run_folder / "selected.jsonl", make_rows(8))
    finetune.run(experiment)
    monkeypatch.setattr(answers, "answer_nll", lambda _, rows: {row.example_id: value for row in rows})
    with pytest.raises(
        ExperimentError, match=r"^answer_nll of 5 of 5 test rows is not finite, first of 'target-000'; "
    ):
        evaluate.run(experiment)
