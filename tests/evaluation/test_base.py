import json

import pytest

from lessexp.data.rows import write_rows
from lessexp.evaluation.answer_nll import AnswerNLLBenchmark
from lessexp.evaluation.base import Benchmark, mean_by_subtask
from lessexp.evaluation.mmlu import MMLUBenchmark
from lessexp.evaluation.reasoning_gym import ReasoningGymBenchmark
from tests.conftest import make_rows


def answer_nll_benchmark(folder):
    write_rows(folder / "target.jsonl", make_rows(4, target=True))
    return AnswerNLLBenchmark(str(folder / "target.jsonl"))


def mmlu_benchmark(folder):
    question = {
        "subject": "botany",
        "question": "Which is green?",
        "choices": ["sky", "leaf", "sun", "sea"],
        "answer": 1,
    }
    (folder / "mmlu.jsonl").write_text(json.dumps(question) + "\n" + json.dumps(question) + "\n")
    path = str(folder / "mmlu.jsonl")
    return MMLUBenchmark(path=path, dev_path=path, repo_id="unused", n_shots=1, limit=None, seed=0)


def reasoning_gym_benchmark(folder):
    return ReasoningGymBenchmark({"chain_sum": {}, "coin_flip": {}}, rows_per_family=2, seed=7, max_new_tokens=4)


@pytest.mark.parametrize("build", [answer_nll_benchmark, mmlu_benchmark, reasoning_gym_benchmark])
def test_a_benchmark_gives_the_same_uniquely_named_answered_rows_with_subtasks(build, tmp_path):
    benchmark = build(tmp_path)
    assert isinstance(benchmark, Benchmark)
    rows = benchmark.rows()
    assert rows and rows == benchmark.rows()
    assert len({row.example_id for row in rows}) == len(rows)
    assert all(row.task and row.subtask for row in rows)
    assert all(row.messages[-1][0] == "assistant" and row.messages[-1][1] for row in rows)


def test_mean_by_subtask_averages_each_subtask_alone_in_order_of_first_appearance():
    means = mean_by_subtask([("words", 1.0), ("sums", 5.0), ("words", 0.0), ("words", 0.5)])
    assert list(means.items()) == [("words", 0.5), ("sums", 5.0)]


def test_mean_by_subtask_of_nothing_is_empty():
    assert mean_by_subtask([]) == {}
