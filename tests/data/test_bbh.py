import json
import os
from pathlib import Path

import datasets
import pytest

from lessexp.data.bbh import read_bbh
from lessexp.data.records import local_records
from lessexp.data.rows import RowError
from lessexp.errors import MissingFileError
from tests.conftest import write_lines

SHOT = {
    "task": "sorting",
    "task_prompt": "Sort.",
    "input": "b a",
    "cot": "a first. So the answer is a b.",
    "target": "a b",
}


def read(path, split="dev"):
    return read_bbh(path, repo_id="some/repo", split=split)


def test_solved_examples_carry_their_instruction_and_reasoning(tmp_path):
    (exercise,) = read(write_lines(tmp_path / "dev.jsonl", SHOT))
    assert (exercise.exercise_id, exercise.subtask, exercise.answers) == ("dev-00000", "sorting", ("a b",))
    assert exercise.fields == {
        "instruction": "Sort.",
        "question": "b a",
        "cot": "a first. So the answer is a b.",
        "answer": "a b",
    }
    assert exercise.content == "b a"


def test_of_a_test_questions_reasoning_only_the_last_sentence_is_known(tmp_path):
    path = write_lines(tmp_path / "test.jsonl", {"task": "sorting", "input": "d c", "target": "c d"})
    (exercise,) = read(path, split="test")
    assert (exercise.fields["cot"], exercise.fields["instruction"]) == ("So the answer is c d.", "")


def test_every_task_of_the_hub_is_read_by_its_name(monkeypatch):
    asked = []

    def hub(*args, split):
        asked.append((*args, split))
        return datasets.Dataset.from_list([{"input": "?", "target": "!"}])

    monkeypatch.setattr("datasets.get_dataset_config_names", lambda repo_id: ["dates", "sorting"])
    monkeypatch.setattr("datasets.load_dataset", hub)
    assert [found.subtask for found in read(None, split="test")] == ["dates", "sorting"]
    assert asked == [("some/repo", "dates", "test"), ("some/repo", "sorting", "test")]


def test_solved_examples_are_not_asked_of_the_hub():
    with pytest.raises(MissingFileError, match=r"set target\.path to .*cot-prompts"):
        read(None)


def write_cot_prompt(folder, record_groups):
    for task, records in record_groups.items():
        blocks = "\n\n".join(f"Q: {record['input']}\nA: {record['cot']}" for record in records)
        text = f"BIG-bench canary GUID\n-----\n{records[0]['task_prompt']}\n\n{blocks}"
        (folder / f"{task}.txt").write_text(text, encoding="utf-8")


def test_the_authors_folder_gives_the_same_as_json_lines(tmp_path):
    records = [SHOT, SHOT | {"input": "c\n\nb", "cot": "Look:\n\nb, c.\nSo the answer is b c", "target": "b c"}]
    (tmp_path / "cot-prompts").mkdir()
    write_cot_prompt(tmp_path / "cot-prompts", {"sorting": records})
    from_text = read(str(tmp_path / "cot-prompts"))
    from_lines = read(write_lines(tmp_path / "dev.jsonl", *records))
    assert [found.fields for found in from_text] == [found.fields for found in from_lines]
    assert [found.subtask for found in from_text] == ["sorting", "sorting"]


def test_all_27_real_prompts_are_read_back_from_the_authors_form(tmp_path):
    if not (data := os.environ.get("LESSEXP_DATA")):
        pytest.skip("LESSEXP_DATA names no folder of real rows")
    path = Path(data) / "eval" / "bbh" / "dev.jsonl"
    groups = {}
    for _, record in local_records(path):
        groups.setdefault(record["task"], []).append(record)
    write_cot_prompt(tmp_path, groups)
    read_back = {(found.subtask, found.content): found for found in read(str(tmp_path))}
    expected = {(found.subtask, found.content): found for found in read(str(path))}
    assert len(read_back) == len(expected) == 81
    assert all(read_back[key].fields == expected[key].fields for key in expected)


@pytest.mark.parametrize(
    "text",
    [
        "Sort.\n\nQ: b a\nSo the answer is a b.",
        "Sort.\n\nQ: b a\nA: It is a b.",
        "Sort.\n\nQ: b a\nA: So the answer is .",
    ],
)
def test_a_block_without_answer_or_verdict_is_refused_naming_its_file(tmp_path, text):
    (tmp_path / "sorting.txt").write_text(text)
    with pytest.raises(RowError, match=r"sorting\.txt, question 1: needs an answer"):
        read(str(tmp_path))


def test_a_folder_without_prompts_and_a_bad_line_are_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"holds no \.txt file"):
        read(str(tmp_path))
    with pytest.raises(RowError, match=r"dev\.jsonl, line 2: 'target' must be"):
        read(write_lines(tmp_path / "dev.jsonl", SHOT, SHOT | {"target": ""}))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"input": "\ud800"}, "'input' is no valid Unicode"),
        ({"target": "a\nb"}, "'target' has several lines, and an answer is compared by its line alone"),
    ],
)
def test_a_question_that_cannot_be_judged_is_refused_by_file_and_line(tmp_path, change, complaint):
    record = {"task": "sorting", "input": "b a", "target": "a b"}
    with pytest.raises(RowError, match=rf"test\.jsonl, line 2: {complaint}"):
        read(write_lines(tmp_path / "test.jsonl", record, json.dumps(record | change)), split="test")


def test_a_prompt_in_another_encoding_is_named(tmp_path):
    (tmp_path / "sorting.txt").write_bytes("Sort.\n\nQ: é\nA: So the answer is é.".encode("latin-1"))
    with pytest.raises(RowError, match=r"sorting\.txt: its text is not UTF-8"):
        read(str(tmp_path))
