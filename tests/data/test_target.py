import json

import pytest

from lessexp.data.rows import Row, RowError, write_rows
from lessexp.data.target import EmptyTargetError, jsonl_target, mmlu_target
from lessexp.errors import MissingFileError

MESSAGES = (("user", "?"), ("assistant", "!"))


def test_target_rows_carry_task_and_subtask(tmp_path):
    rows = [Row("dolly", "a", MESSAGES, "toy", "sums"), Row("dolly", "b", MESSAGES, "toy", "words")]
    write_rows(tmp_path / "target.jsonl", [*rows, Row("dolly", "c", MESSAGES)])
    assert jsonl_target(str(tmp_path / "target.jsonl")) == [*rows, Row("dolly", "c", MESSAGES, "dolly", "dolly")]


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_target_without_rows_is_refused_naming_its_key(tmp_path, content):
    path = tmp_path / "target.jsonl"
    path.write_text(content)
    with pytest.raises(EmptyTargetError, match=r"target\.path: .*target\.jsonl"):
        jsonl_target(str(path))


def test_a_missing_target_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"nowhere\.jsonl"):
        jsonl_target(str(tmp_path / "nowhere.jsonl"))


def test_a_subtask_that_is_no_string_is_refused_naming_its_line(tmp_path):
    path = tmp_path / "target.jsonl"
    path.write_text(json.dumps(Row("dolly", "a", MESSAGES).to_json() | {"subtask": 3}))
    with pytest.raises(RowError, match=r"target\.jsonl, line 1: 'task' and 'subtask' must be strings"):
        jsonl_target(str(path))


def test_each_subject_of_mmlu_is_a_subtask_and_the_letter_is_the_answer(tmp_path):
    path = tmp_path / "dev.jsonl"
    question = {"question": "Who?", "choices": ["me", "you", "they", "none"], "answer": "C"}
    path.write_text("\n".join(json.dumps(question | {"subject": subject}) for subject in ("law", "art")))
    header = "The following are multiple choice questions (with answers) about {}.\n\n"
    text = header + "Who?\nA. me\nB. you\nC. they\nD. none\nAnswer:"
    assert mmlu_target(str(path), "unused/repo") == [
        Row("mmlu", f"mmlu-dev-0000{index}", (("user", text.format(subject)), ("assistant", "C")), "mmlu", subject)
        for index, subject in enumerate(("law", "art"))
    ]
