"""The package itself where it is installed, else a stand-in that records what it was asked."""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import pytest

from lessexp.evaluation.base import Examinee
from lessexp.evaluation.lm_eval import LMEvalBenchmark, LMEvalError
from tests.conftest import write_lines

installed = pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed")
DOCS = [{"question": f"Is {i} even?", "choices": ["yes", "no"], "label": i % 2} for i in range(6)]


def build(**settings):
    defaults = dict(tasks=["parity"], include_path=None, metric="acc", num_fewshot=0, batch_size=4, limit=None, seed=0)
    return LMEvalBenchmark(**defaults | settings)


@pytest.fixture
def examinee(lora_model, tokenizer, chat_format):
    return Examinee(lora_model, tokenizer, chat_format, 512, 512, lambda done: None)


class Task:
    config = SimpleNamespace(doc_to_choice="choices")
    eval_docs = DOCS

    def doc_to_text(self, doc):
        return doc["question"]

    def doc_to_target(self, doc):
        return doc["label"]

    def doc_to_choice(self, doc):
        return doc["choices"]

    def higher_is_better(self):
        return {"acc": True, "ppl": False}


@pytest.fixture
def stand_in(monkeypatch):
    """A module in the package's place; returns what its evaluation was called with."""
    calls = {}

    def evaluate(**settings):
        calls.update(settings)
        ((name, indices),) = settings["samples"].items()
        samples = [
            {"doc_id": i, "metrics": ["acc", "ppl"], "acc": i % 2, "ppl": (1, 2), "filtered_resps": [f"answer {i}"]}
            for i in reversed(indices)
        ]
        return {"samples": {name: samples}}

    manager = SimpleNamespace(all_subtasks=["parity"], load=lambda names: {"tasks": {"parity": Task()}})
    modules = {name: ModuleType(name) for name in ("lm_eval", "lm_eval.models", "lm_eval.tasks")}
    modules["lm_eval.models.huggingface"] = ModuleType("lm_eval.models.huggingface")
    modules["lm_eval.models.huggingface"].HFLM = lambda **settings: settings
    modules["lm_eval.models"].huggingface = modules["lm_eval.models.huggingface"]
    modules["lm_eval.tasks"].TaskManager = lambda include_path: manager
    modules["lm_eval"].models, modules["lm_eval"].tasks = modules["lm_eval.models"], modules["lm_eval.tasks"]
    modules["lm_eval"].simple_evaluate = evaluate
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return calls


def test_scores_come_back_to_the_rows_they_belong_to_in_any_order(stand_in, examinee):
    benchmark = build(limit=4)
    rows = benchmark.rows()[::-1]
    assert all(row.messages[-1][1] == ("yes", "no")[int(row.example_id[-1]) % 2] for row in rows)
    predictions = benchmark.judge(examinee, rows)
    assert [found.example_id for found in predictions] == [row.example_id for row in rows]
    assert [found.score for found in predictions] == [int(row.example_id[-1]) % 2 for row in rows]
    assert all(found.further_scores == {} for found in predictions)  # what is no number of one question is left out
    assert stand_in["model"]["pretrained"] is examinee.model
    assert (stand_in["model"]["batch_size"], stand_in["num_fewshot"]) == (4, 0)
    assert stand_in["samples"] == {"parity": sorted(int(row.example_id[-1]) for row in rows)}


def test_an_unknown_task_or_metric_is_named(stand_in, examinee):
    with pytest.raises(LMEvalError, match="no task 'nothing'"):
        build(tasks=["nothing"])
    benchmark = build(metric="f1")
    with pytest.raises(LMEvalError, match=r"no metric 'f1' .* benchmark\.metric to one of acc"):
        benchmark.judge(examinee, benchmark.rows())


def test_a_missing_package_is_one_sentence_that_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(LMEvalError, match=r"pip install 'lessexp\[lm-eval\]'"):
        build()


@installed
@pytest.mark.filterwarnings("ignore")  # the package's own, while it is imported and run
def test_a_local_task_runs_on_the_model_and_scores_are_those_of_single_questions(tmp_path, examinee):
    data = write_lines(tmp_path / "parity.jsonl", *DOCS)
    (tmp_path / "parity.yaml").write_text(
        "task: parity\n"
        "dataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {data}}}, cache_dir: {tmp_path / 'cache'}}}\n"
        "test_split: test\n"
        "output_type: multiple_choice\n"
        'doc_to_text: "{{question}}"\n'
        "doc_to_target: label\n"
        "doc_to_choice: choices\n"
        "metric_list:\n  - {metric: acc, aggregation: mean, higher_is_better: true}\n"
    )
    benchmark = build(include_path=str(tmp_path), limit=5)
    rows = benchmark.rows()
    assert len(rows) == 5 and {row.subtask for row in rows} == {"parity"}
    assert {row.messages[-1][1] for row in rows} == {"yes", "no"}
    together = benchmark.judge(examinee, rows)
    alone = [benchmark.judge(examinee, [row])[0] for row in rows]
    assert [found.score for found in together] == [found.score for found in alone]
    assert set(found.score for found in together) <= {0.0, 1.0}
