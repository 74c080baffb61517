import json

import datasets
import pytest

from lessexp.data.gsm8k import read_gsm8k
from lessexp.data.rows import RowError
from tests.conftest import write_lines

PUBLISHED = {"question": "How many?", "answer": "2*3=<<2*3=6>>6 eggs\n6 + 994 = <<6+994=1000>>1,000\n#### 1,000"}


def read(path, split="test"):
    return read_gsm8k(path, repo_id="some/repo", split=split)


def test_published_answers_are_parted_into_reasoning_without_calculator_notes_and_number(tmp_path):
    (exercise,) = read(write_lines(tmp_path / "test.jsonl", PUBLISHED))
    assert exercise.fields == {"question": "How many?", "cot": "2*3=6 eggs\n6 + 994 = 1,000", "answer": "1,000"}
    assert (exercise.exercise_id, exercise.subtask, exercise.answers) == ("test-00000", "gsm8k", ("1,000",))


def test_a_line_with_its_reasoning_apart_is_taken_as_it_is(tmp_path):
    line = {"question": "How many?", "cot": "2*3=6", "answer": "6"}
    (exercise,) = read(write_lines(tmp_path / "dev.jsonl", line), split="dev")
    assert exercise.fields == line


def test_dev_rows_are_the_hubs_train_rows(monkeypatch):
    asked = []

    def hub(*args, split):
        asked.append((*args, split))
        return datasets.Dataset.from_list([PUBLISHED])

    monkeypatch.setattr("datasets.load_dataset", hub)
    assert read(None, split="dev") and read(None, split="test")
    assert asked == [("some/repo", "main", "train"), ("some/repo", "main", "test")]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"answer": "6"}, "must end with '#### number'"),
        ({"question": 1}, "'question' must"),
        ({"cot": ""}, "'cot' must"),
        ({"cot": "\ud800"}, "'cot' is no valid Unicode"),
        ({"answer": "None.\n#### none"}, "'answer' holds no number, so that no answer can be right; it is 'none'"),
        ({"cot": "None.", "answer": "none"}, "'answer' holds no number"),
    ],
)
def test_a_bad_line_is_refused_naming_its_file_and_line(tmp_path, change, complaint):
    with pytest.raises(RowError, match=rf"test\.jsonl, line 2: .*{complaint}"):
        read(write_lines(tmp_path / "test.jsonl", PUBLISHED, json.dumps(PUBLISHED | change)))


def test_a_solved_example_may_end_in_words(tmp_path):
    line = {"question": "How many?", "cot": "2*3=6", "answer": "six"}
    assert read(write_lines(tmp_path / "dev.jsonl", line), split="dev")[0].answers == ("six",)
