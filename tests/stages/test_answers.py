import shutil
from dataclasses import replace

import pytest

from lessexp.data.prepare import Reader
from lessexp.data.rows import write_rows
from lessexp.evaluation import mmlu
from lessexp.identity import Hashed, key_of
from lessexp.stages import finetune
from lessexp.stages.answers import Answers, Tuned, read_answers
from tests.conftest import make_rows, write_lines


@pytest.fixture
def asked(make_experiment):
    """What a run asks the model before training."""

    def make(*overrides, run="run"):
        experiment = make_experiment("selector=random", "model.dtype=float32", *overrides, run=run)
        reader = Reader(experiment.model.tokenizer, experiment.model.chat_format, experiment.cfg.evaluation.max_length)
        benchmark, rows = Hashed(experiment.benchmark), Hashed(experiment.benchmark_rows)
        return experiment, Answers(experiment.model.model, None, reader, benchmark, rows)

    return make


def test_the_answers_of_a_tuned_model_are_known_by_the_files_of_what_was_trained(asked, tmp_path):
    experiment, base = asked("finetune.training.epochs=4")
    write_rows(experiment.selected_file, make_rows(8))
    finetune.run(experiment)
    tuned = replace(base, tuned=Tuned(experiment.tuning, experiment.tuned_folder))
    copied = Tuned(experiment.tuning, shutil.copytree(experiment.tuned_folder, tmp_path / "copied"))
    assert key_of(replace(base, tuned=copied)) == key_of(tuned) != key_of(base)
    before, after = (read_answers(experiment.runtime.get(one).folder)[0]["answer_nll"] for one in (base, tuned))
    assert sum(after.values()) < sum(before.values())
    (tmp_path / "copied" / "adapter_model.safetensors").write_bytes(b"other")
    assert key_of(replace(base, tuned=Tuned(experiment.tuning, tmp_path / "copied"))) != key_of(tuned)


def multiple_choice(folder):
    def question(number, split):
        return {"subject": "sums", "question": f"{split} {number}?", "choices": list("wxyz"), "answer": number % 4}

    folder.mkdir()
    dev = write_lines(folder / "dev.jsonl", *(question(number, "dev") for number in range(2)))
    test = write_lines(folder / "test.jsonl", *(question(number, "test") for number in range(6)))
    return ["target=mmlu", f"target.path={dev}", f"benchmark.path={test}", "benchmark.n_shots=1", "max_length=400"]


@pytest.mark.parametrize(
    ("override", "is_other"),
    [
        ("seed=1", False),
        ("benchmark.seed=1", False),
        ("fraction=0.5", False),
        ("evaluation.tokens_per_batch=64", False),
        ("evaluation.max_length=401", True),
        ("benchmark.limit=5", True),
        ("benchmark.n_shots=2", True),
        ("protocol=released", True),
        ("chat_format=model", True),
        ("model.dtype=bfloat16", True),
    ],
)
def test_answers_are_known_by_what_is_asked_and_not_by_how_it_was_drawn_or_where_it_lay(
    asked, tmp_path, override, is_other
):
    _, here = asked(*multiple_choice(tmp_path / "here"))
    _, there = asked(*multiple_choice(tmp_path / "there"), override, run="there")
    assert (key_of(here) != key_of(there)) == is_other


def test_another_judge_is_another_key(asked, tmp_path, monkeypatch):
    _, before = asked(*multiple_choice(tmp_path / "data"))
    known = key_of(before)
    source = tmp_path / "mmlu.py"
    source.write_text("judged otherwise")
    monkeypatch.setattr(mmlu, "__file__", str(source))
    _, after = asked(*multiple_choice(tmp_path / "again"), run="again")
    assert key_of(after) != known
