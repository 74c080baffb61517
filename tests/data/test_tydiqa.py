import json

import datasets
import pytest

from lessexp.data.rows import RowError
from lessexp.data.tydiqa import read_tydiqa
from tests.conftest import write_lines

RECORD = {"lang": "finnish", "id": "7", "context": "Oulu on kaupunki.", "question": "Mikä?", "answers": ["kaupunki"]}


def read(path, split="test"):
    return read_tydiqa(path, repo_id="some/repo", split=split)


def test_questions_carry_language_passage_and_all_distinct_answers(tmp_path):
    path = write_lines(tmp_path / "test.jsonl", RECORD | {"answers": [" kaupunki", "", "kaupunki", "town"]})
    (exercise,) = read(path)
    assert (exercise.exercise_id, exercise.subtask) == ("test-00000", "finnish")
    assert exercise.answers == ("kaupunki", "town")
    assert exercise.fields == {"context": "Oulu on kaupunki.", "question": "Mikä?", "answer": "kaupunki"}
    assert exercise.content == "Oulu on kaupunki.\nMikä?"


def test_examples_are_read_in_the_order_of_their_shots(tmp_path):
    lines = [RECORD | {"shot": shot, "question": str(shot)} for shot in (2, 0, 1)]
    assert [found.content[-1] for found in read(write_lines(tmp_path / "dev.jsonl", *lines))] == ["0", "1", "2"]


def test_answers_of_a_copy_without_labels_are_none(tmp_path):
    (exercise,) = read(write_lines(tmp_path / "test.jsonl", RECORD | {"answers": [""]}))
    assert exercise.answers == ()


def test_hub_rows_name_their_language_in_the_id_and_dev_rows_are_its_train_rows(monkeypatch):
    asked = []

    def hub(*args, split):
        asked.append((*args, split))
        row = RECORD | {"id": "korean--358-0", "answers": {"text": ["서울"], "answer_start": [0]}}
        del row["lang"]
        return datasets.Dataset.from_list([row])

    monkeypatch.setattr("datasets.load_dataset", hub)
    (exercise,) = read(None, split="dev")
    assert (exercise.subtask, exercise.answers) == ("korean", ("서울",))
    read(None, split="test")
    assert asked == [("some/repo", "secondary_task", "train"), ("some/repo", "secondary_task", "validation")]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"context": ""}, "'context' must be a non-empty string"),
        ({"question": None}, "'question' must be a non-empty string"),
        ({"lang": 3}, "'lang' must be a non-empty string"),
        ({"lang": "\ud800"}, "'lang' is no valid Unicode"),
        ({"context": "\ud800"}, "'context' is no valid Unicode"),
        ({"answers": ["Oulu", "\ud800"]}, "one of the 'answers' is no valid Unicode"),
        ({"answers": "kaupunki"}, "'answers' must be a list of strings"),
        ({"answers": [1]}, "'answers' must be a list of strings"),
        ({"shot": "0"}, "'shot' must be a number"),
    ],
)
def test_a_bad_line_is_refused_naming_its_file_and_line(tmp_path, change, complaint):
    path = write_lines(tmp_path / "test.jsonl", RECORD, json.dumps(RECORD | change))
    with pytest.raises(RowError) as refused:
        read(path)
    assert str(refused.value).startswith(f"{path}, line 2: {complaint}")
