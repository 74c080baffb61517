import datasets
import pytest

from lessexp.data.pool import DataUnavailableError
from lessexp.data.records import hub_records, local_records, text_field
from lessexp.data.rows import RowError
from lessexp.errors import MissingFileError
from tests.conftest import write_lines


def test_records_come_with_their_file_and_line_and_split_at_line_feeds_alone(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", {"text": "one\u2028two"}, "", {"text": "three"})
    assert list(local_records(path)) == [
        (f"{path}, line 1", {"text": "one\u2028two"}),
        (f"{path}, line 3", {"text": "three"}),
    ]


@pytest.mark.parametrize(("line", "complaint"), [("{", "not valid JSON"), ("[1]", "must be a JSON object")])
def test_a_line_that_is_no_object_is_refused_by_its_number(tmp_path, line, complaint):
    path = write_lines(tmp_path / "a.jsonl", {"text": "fine"}, line)
    with pytest.raises(RowError, match=rf"a\.jsonl, line 2: .*{complaint}"):
        list(local_records(path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"nowhere\.jsonl"):
        list(local_records(tmp_path / "nowhere.jsonl"))


def test_hub_rows_are_those_of_the_configuration_and_split(monkeypatch):
    asked = []

    def hub(*args, split):
        asked.append((*args, split))
        return datasets.Dataset.from_list([{"text": "one"}])

    monkeypatch.setattr("datasets.load_dataset", hub)
    assert list(hub_records("some/repo", "main", "test")) == [("some/repo test, row 1", {"text": "one"})]
    assert asked == [("some/repo", "main", "test")]


def test_an_unreachable_hub_names_the_keys_that_take_local_files(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with pytest.raises(DataUnavailableError, match=r"some/repo.*target\.path.*benchmark\.path"):
        list(hub_records("some/repo", None, "test"))


@pytest.mark.parametrize("record", [{}, {"text": ""}, {"text": " \n"}, {"text": 3}])
def test_a_text_field_must_hold_text(record):
    with pytest.raises(RowError, match=r"a\.jsonl, line 1: 'text' must be a non-empty string"):
        text_field(record, "text", "a.jsonl, line 1")
