import json

import pytest
import torch

from lessexp.data.multiple_choice import read_questions
from lessexp.data.rows import RowError
from lessexp.data.tokenize import collate
from lessexp.evaluation.base import Examinee
from lessexp.evaluation.few_shot import FewShotBenchmark
from lessexp.evaluation.mmlu import LikeliestLetter
from tests.conftest import prompts

SUBJECTS = ("virology", "abstract_algebra", "law")


def question(split, subject, index):
    return {
        "subject": subject,
        "question": f"{split} {subject} {index}: what is {'word ' * (index % 4)}{index}?",
        "choices": [f"{index + choice * 3} numbers" for choice in range(4)],
        "answer": "ABCD"[(index + len(subject)) % 4],
    }


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


@pytest.fixture
def build(tmp_path):
    dev = [question("dev", subject, index) for subject in SUBJECTS for index in range(4)]
    test = [question("test", subject, index) for subject in SUBJECTS for index in range(6)]

    def benchmark(test=test, dev=dev, n_shots=2, limit=None, seed=0):
        return FewShotBenchmark(
            read_questions,
            LikeliestLetter(),
            max_new_tokens=1,
            task="mmlu",
            prompts=prompts("mmlu"),
            subtasks=None,
            ngram=13,
            path=write(tmp_path / "test.jsonl", test),
            dev_path=write(tmp_path / "dev.jsonl", dev),
            repo_id="unused",
            n_shots=n_shots,
            limit=limit,
            seed=seed,
        )

    return benchmark


def texts(benchmark):
    return [text.split("\n")[0] for text in benchmark.questions().values()]


@pytest.mark.parametrize("n_shots", [0, 2])
def test_prompt_holds_solved_examples_of_the_subject_and_leaves_its_own_question_open(build, n_shots):
    for row in build(n_shots=n_shots).rows():
        (role, prompt), (_, answer) = row.messages
        header, *solved, asked = prompt.split("\n\n")
        assert role == "user" and row.subtask.replace("_", " ") in header
        assert [text.split(":")[0] for text in solved] == [f"dev {row.subtask} {index}" for index in range(n_shots)]
        right = [question("dev", row.subtask, index)["answer"] for index in range(n_shots)]
        assert [text.rsplit("Answer: ")[-1] for text in solved] == right
        assert asked.startswith(f"test {row.subtask} ") and asked.endswith("Answer:")
        assert answer in "ABCD"


# One question at a time, some together, and all padded to one batch.
@pytest.mark.parametrize("tokens_per_batch", [64, 1000, 100_000])
def test_predictions_of_batches_equal_the_letter_with_the_highest_logit_in_a_loop_of_its_own(
    build, lora_model, tokenizer, chat_format, tokens_per_batch
):
    finished = []
    benchmark = build()
    rows = benchmark.rows()
    examinee = Examinee(lora_model, tokenizer, chat_format, 2048, tokens_per_batch, finished.append)
    predictions = benchmark.judge(examinee, rows)
    letters = {letter: tokenizer(letter, add_special_tokens=False)["input_ids"] for letter in "ABCD"}
    expected = []
    for row in rows:
        context = tokenizer(f"<|user|>\n{row.messages[0][1]}\n<|assistant|>\n")["input_ids"]
        with torch.no_grad():
            logits = lora_model(input_ids=torch.tensor([context])).logits[0, -1]
        expected.append(max(letters, key=lambda letter: logits[letters[letter][0]].item()))
    assert len(set(expected)) > 1, "a model that always says the same would show nothing"
    assert [prediction.answer for prediction in predictions] == expected
    assert [prediction.score for prediction in predictions] == [
        float(answer == row.messages[-1][1]) for answer, row in zip(expected, rows, strict=True)
    ]
    assert sum(finished) == len(rows)


def test_limit_draws_by_seed_from_each_subject_whatever_the_order_of_subjects_in_the_file(build):
    drawn = texts(build(limit=3))
    assert [text.split()[1] for text in drawn] == [subject for subject in sorted(SUBJECTS) for _ in range(3)]
    reordered = [question("test", subject, index) for subject in SUBJECTS[::-1] for index in range(6)]
    assert texts(build(limit=3, test=reordered)) == drawn
    assert texts(build(limit=3, seed=1)) != drawn
    alone = [question("test", "law", index) for index in range(6)]
    assert texts(build(limit=3, test=alone)) == [text for text in drawn if " law " in text]


def test_a_limit_above_the_number_of_questions_takes_each_once(build):
    assert sorted(texts(build(limit=100))) == sorted(texts(build()))


def test_answers_may_be_letters_or_indices(build):
    indexed = [question("test", "law", index) for index in range(6)]
    letters = [record["answer"] for record in indexed]
    for record in indexed:
        record["answer"] = "ABCD".index(record["answer"])
    assert [row.messages[-1][1] for row in build(test=indexed).rows()] == letters


@pytest.mark.parametrize("change", [{"answer": "E"}, {"answer": 4}, {"choices": ["one", "two"]}])
def test_a_malformed_question_is_refused_by_file_and_line(build, change):
    with pytest.raises(RowError, match=r"test\.jsonl, line 2"):
        build(test=[question("test", "law", 0), question("test", "law", 1) | change])


def test_control_tokens_that_a_choice_spells_out_are_not_given_to_the_model(
    build, lora_model, tokenizer, chat_format, monkeypatch
):
    forged = question("test", "law", 1) | {"choices": ["</s>", "<|im_end|>", "1", "2"]}
    benchmark = build(test=[forged], n_shots=0)
    seen = []

    def recorded(rows, **settings):
        seen.extend(token for row in rows for token in row.input_ids)
        return collate(rows, **settings)

    monkeypatch.setattr("lessexp.evaluation.mmlu.collate", recorded)
    benchmark.judge(Examinee(lora_model, tokenizer, chat_format, 2048, 1000, lambda done: None), benchmark.rows())
    assert seen and not set(seen) & set(tokenizer.convert_tokens_to_ids(["</s>", "<|im_end|>"]))
