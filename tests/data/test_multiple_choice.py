import json

import datasets
import pytest

from lessexp.data.multiple_choice import read_questions
from lessexp.data.pool import DataUnavailableError
from lessexp.data.rows import RowError
from lessexp.errors import MissingFileError
from tests.conftest import write_lines

RECORD = {"subject": "law", "question": "Who?", "choices": ["me", "you", "they", "none"], "answer": "C"}


def read(path, split="dev"):
    return read_questions(path, repo_id="some/repo", split=split)


def test_questions_keep_the_order_of_the_file_and_get_ids_of_their_split(tmp_path):
    other = RECORD | {"subject": "fine_art", "question": " one\u2028two\n", "choices": [1, 2, 3, 4], "answer": 0}
    path = write_lines(tmp_path / "questions.jsonl", RECORD, "", other)
    first, second = read(path, split="test")
    assert (first.exercise_id, second.exercise_id) == ("test-00000", "test-00001")
    assert (first.subtask, second.subtask) == ("law", "fine_art")
    assert (first.answers, second.answers) == (("C",), ("A",))
    assert second.fields == {
        "subject": "fine art",
        "question": "one\u2028two",
        "a": "1",
        "b": "2",
        "c": "3",
        "d": "4",
        "answer": "A",
    }
    assert first.content == "Who?\nme\nyou\nthey\nnone"


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (RECORD | {"choices": ["me", "you", "they"]}, "four 'choices'"),
        (RECORD | {"choices": "ABCD"}, "four 'choices'"),
        (RECORD | {"answer": "E"}, "an 'answer' among A, B, C, D"),
        (RECORD | {"answer": "AB"}, "an 'answer' among A, B, C, D"),
        (RECORD | {"answer": 4}, "an 'answer' among A, B, C, D"),
        (RECORD | {"answer": -1}, "an 'answer' among A, B, C, D"),
        (RECORD | {"subject": None}, "'subject' must be a non-empty string"),
        (json.dumps(RECORD | {"subject": "\ud800"}), "'subject' is no valid Unicode"),
        (json.dumps(RECORD | {"question": "\ud800"}), "'question' is no valid Unicode"),
        (json.dumps(RECORD | {"choices": ["1", "\ud800", "3", "4"]}), "choice B is no valid Unicode"),
        (["Who?"], "must be a JSON object"),
        ("{", "not valid JSON"),
    ],
)
def test_a_bad_question_is_refused_naming_its_file_and_line(tmp_path, bad, complaint):
    path = write_lines(tmp_path / "questions.jsonl", RECORD, "", bad)
    with pytest.raises(RowError) as refused:
        read(path)
    assert str(refused.value).startswith(f"{path}, line 3: ")
    assert complaint in str(refused.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"nowhere\.jsonl"):
        read(str(tmp_path / "nowhere.jsonl"))


def test_questions_of_the_hub_have_numbers_for_answers(monkeypatch):
    asked = []

    def hub(*args, split):
        asked.append((*args, split))
        return datasets.Dataset.from_list([RECORD | {"answer": index} for index in range(4)])

    monkeypatch.setattr("datasets.load_dataset", hub)
    assert [question.answers for question in read(None, split="test")] == [("A",), ("B",), ("C",), ("D",)]
    assert asked == [("some/repo", "all", "test")]


def test_an_unreachable_hub_names_the_keys_that_take_local_files(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with pytest.raises(DataUnavailableError, match=r"some/repo.*target\.path.*benchmark\.path"):
        read(None)
