import pytest
import torch

from lessexp.data.bbh import read_bbh
from lessexp.data.gsm8k import read_gsm8k
from lessexp.data.multiple_choice import read_questions
from lessexp.data.rows import write_rows
from lessexp.data.tydiqa import read_tydiqa
from lessexp.evaluation import bbh, gsm8k, tydiqa
from lessexp.evaluation.answer_nll import AnswerNLLBenchmark
from lessexp.evaluation.base import Benchmark, Examinee, mean_by_subtask
from lessexp.evaluation.few_shot import FewShotBenchmark
from lessexp.evaluation.mmlu import LikeliestLetter
from lessexp.evaluation.reasoning_gym import ReasoningGymBenchmark
from lessexp.evaluation.written_answer import WrittenAnswer
from tests.conftest import make_rows, prompts, write_lines


def answer_nll_benchmark(folder):
    write_rows(folder / "target.jsonl", make_rows(4, target=True))
    return AnswerNLLBenchmark(str(folder / "target.jsonl"), limit=None, seed=0)


def few_shot_settings(folder, name, **test):
    test_file = write_lines(folder / "test.jsonl", test, test | {"id": "2"})
    dev = {name: value.replace("green", "blue") if isinstance(value, str) else value for name, value in test.items()}
    dev_file = write_lines(folder / "dev.jsonl", dev)
    return dict(
        path=test_file,
        dev_path=dev_file,
        repo_id="unused",
        task=name,
        prompts=prompts(name),
        subtasks=None,
        n_shots=1,
        max_new_tokens=4,
        limit=None,
        seed=0,
        ngram=13,
    )


def mmlu_benchmark(folder):
    question = dict(subject="botany", question="Which is green?", choices=["sky", "leaf", "sun", "sea"], answer=1)
    return FewShotBenchmark(read_questions, LikeliestLetter(), **few_shot_settings(folder, "mmlu", **question))


def tydiqa_benchmark(folder):
    question = dict(lang="english", id="1", context="Leaves are green.", question="Which is green?", answers=["Leaves"])
    settings = few_shot_settings(folder, "tydiqa", **question)
    return FewShotBenchmark(read_tydiqa, WrittenAnswer(tydiqa.score, metric="f1"), **settings)


def bbh_benchmark(folder):
    settings = few_shot_settings(folder, "bbh", task="botany", input="Is it green?", target="yes")
    return FewShotBenchmark(read_bbh, WrittenAnswer(bbh.score, metric="exact_match"), **settings)


def gsm8k_benchmark(folder):
    settings = few_shot_settings(folder, "gsm8k", question="How many are green?", cot="Both are.", answer="2")
    return FewShotBenchmark(read_gsm8k, WrittenAnswer(gsm8k.score, metric="exact_match"), **settings)


def reasoning_gym_benchmark(folder):
    settings = dict(rows_per_family=2, max_new_tokens=4, limit=None, limit_seed=0)
    return ReasoningGymBenchmark({"chain_sum": {}, "coin_flip": {}}, seed=7, **settings)


BENCHMARKS = [
    answer_nll_benchmark,
    mmlu_benchmark,
    tydiqa_benchmark,
    bbh_benchmark,
    gsm8k_benchmark,
    reasoning_gym_benchmark,
]


@pytest.mark.parametrize("build", BENCHMARKS)
def test_a_benchmark_gives_the_same_uniquely_named_answered_rows_with_subtasks(build, tmp_path):
    benchmark = build(tmp_path)
    assert isinstance(benchmark, Benchmark)
    rows = benchmark.rows()
    assert rows and rows == benchmark.rows()
    assert len({row.example_id for row in rows}) == len(rows)
    assert all(row.task and row.subtask for row in rows)
    assert all(row.messages[-1][0] == "assistant" and row.messages[-1][1] for row in rows)
    questions = benchmark.questions()
    assert list(questions) == [row.example_id for row in rows]
    assert all(part in row.messages[-2][1] for row in rows for part in questions[row.example_id].split("\n"))


@pytest.mark.parametrize("build", BENCHMARKS)
def test_rows_that_fit_are_left_as_they_are_and_a_subset_is_fitted_row_by_row(build, tmp_path, tokenizer, chat_format):
    benchmark = build(tmp_path)
    reader = Examinee(torch.nn.Linear(1, 1), tokenizer, chat_format, 0, 0, lambda done: None)
    rows = benchmark.rows()
    assert benchmark.fit(rows[::-1], reader, max_length=10_000) == rows[::-1]
    assert benchmark.cut(rows, reader, max_length=10_000) == []


@pytest.mark.parametrize("build", BENCHMARKS)
def test_a_benchmark_names_the_prompts_that_lose_their_start(build, tmp_path, tokenizer, chat_format):
    benchmark = build(tmp_path)
    reader = Examinee(torch.nn.Linear(1, 1), tokenizer, chat_format, 0, 0, lambda done: None)
    rows = benchmark.fit(benchmark.rows(), reader, max_length=10)
    expected = [row.example_id for row in rows] if benchmark.metric else []
    assert benchmark.cut(rows, reader, max_length=10) == expected


def test_mean_by_subtask_averages_each_subtask_alone_in_order_of_first_appearance():
    means = mean_by_subtask([("words", 1.0), ("sums", 5.0), ("words", 0.0), ("words", 0.5)])
    assert list(means.items()) == [("words", 0.5), ("sums", 5.0)]


def test_mean_by_subtask_of_nothing_is_empty():
    assert mean_by_subtask([]) == {}
