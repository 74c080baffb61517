import pytest
import torch

from lessexp.data.few_shot import Exercise
from lessexp.data.rendering import prompt_ids
from lessexp.data.tokenize import tokenize_row
from lessexp.evaluation.base import Examinee
from lessexp.evaluation.few_shot import FewShotBenchmark
from tests.conftest import prompts

MAX_NEW_TOKENS = 12


def exercise(name, words=4, subtask="sorting", instruction=""):
    question = f"{name} {'word ' * words}?"
    fields = {"instruction": instruction, "question": question, "cot": "So the answer is so.", "answer": "so"}
    return Exercise(name, subtask, fields, ("so",), content=question, where=f"file, {name}")


SHOTS = [exercise(f"shot {index}", words=5 + 8 * index, instruction="Do it.") for index in range(3)]
TESTS = [exercise(f"test {index}", words=30 * index) for index in range(4)]


class NoAnswer:
    metric = "none"

    def judge(self, examinee, rows, items, *, max_new_tokens):
        raise AssertionError("nobody is asked")


def build(tests=TESTS, n_shots=3, max_new_tokens=MAX_NEW_TOKENS):
    return FewShotBenchmark(
        lambda path, *, repo_id, split: {"test": tests, "dev": SHOTS}[split],
        NoAnswer(),
        path=None,
        dev_path=None,
        repo_id="unused",
        max_new_tokens=max_new_tokens,
        task="bbh",
        subtasks=None,
        n_shots=n_shots,
        prompts=prompts("bbh", "released"),
        limit=None,
        seed=0,
        ngram=13,
    )


@pytest.fixture
def reader(tokenizer, chat_format):
    return Examinee(torch.nn.Linear(1, 1), tokenizer, chat_format, 0, 0, lambda done: None)


def test_the_instruction_of_a_task_comes_from_its_examples():
    assert all(row.messages[0][1].startswith("Do it.\n\nQ: shot 0") for row in build().rows())


@pytest.mark.parametrize("max_new_tokens", [MAX_NEW_TOKENS, 60])  # fewer than the right answer has, and more
@pytest.mark.parametrize("max_length", [100, 150, 200, 250, 300, 400])
def test_first_examples_go_until_question_and_answer_fit_and_no_sooner(reader, max_length, max_new_tokens):
    exam = build(max_new_tokens=max_new_tokens)
    whole = exam.rows()
    fitted = exam.fit(whole, reader, max_length=max_length)

    def fits(row):
        tokens = tokenize_row(row, tokenizer=reader.tokenizer, chat_format=reader.chat_format, max_length=10_000)
        prompt = prompt_ids(row.messages[:-1], "A:", tokenizer=reader.tokenizer, chat_format=reader.chat_format)
        return max(len(prompt) + max_new_tokens, len(tokens.input_ids)) <= max_length

    for row, given in zip(fitted, whole, strict=True):
        kept = [index for index in range(3) if f"shot {index}" in row.messages[0][1]]
        assert kept == list(range(3 - len(kept), 3))
        assert fits(row) or not kept
        if len(kept) < 3:
            assert not fits(exam.item(given).row(len(kept) + 1))


def test_lengths_between_drop_some_examples_of_some_questions(reader):
    rows = build().fit(build().rows(), reader, max_length=250)
    counts = [row.messages[0][1].count("shot") for row in rows]
    assert counts == sorted(counts, reverse=True) and 0 in counts and max(counts) > 1


@pytest.mark.parametrize("n_shots", [3, 0])
@pytest.mark.parametrize("max_length", [40, 100, 150, 200, 250])
def test_prompts_too_long_without_examples_lose_their_start(reader, max_length, n_shots):
    exam = build(n_shots=n_shots)
    rows = exam.fit(exam.rows(), reader, max_length=max_length)
    lengths = {
        row.example_id: len(
            prompt_ids(row.messages[:-1], "A:", tokenizer=reader.tokenizer, chat_format=reader.chat_format)
        )
        + MAX_NEW_TOKENS
        for row in rows
    }
    cut = [name for name, length in lengths.items() if length > max_length]
    assert exam.cut(rows, reader, max_length=max_length) == cut
    assert (len(cut) > 0) == (max_length < 250)


@pytest.mark.parametrize("n_shots", [3, 1, 0])
def test_a_test_question_that_an_example_asks_is_left_out_even_if_that_example_is_not_shown(n_shots):
    copied = exercise("copy", words=0)
    copied = Exercise("copy", "sorting", copied.fields, ("so",), content=SHOTS[2].content.upper(), where="file, copy")
    exam = build(tests=[*TESTS, copied], n_shots=n_shots)
    assert exam.left_out == {"bbh-copy": "file, shot 2"}
    assert [row.example_id for row in exam.rows()] == [f"bbh-test {index}" for index in range(4)]
    assert "bbh-copy" not in exam.questions()
