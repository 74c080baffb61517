import hashlib
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lessexp.errors import DamagedFileError, MissingFileError
from lessexp.files import read_json, sha256_of, sha256_of_all, write_json
from tests.hostile import damaged, json_values


def test_a_record_comes_back_and_nothing_else_is_left(tmp_path):
    write_json(tmp_path / "a.json", {"name": "Ünïcode ☃", "n": 1})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"name": "Ünïcode ☃", "n": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_record_that_cannot_be_written_leaves_the_old_one(tmp_path):
    write_json(tmp_path / "a.json", {"n": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"n": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"n": 1}


def test_hashes_are_those_of_the_bytes_and_several_files_count_in_their_order(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"one")
    second.write_bytes(b"two")
    assert sha256_of(first) == hashlib.sha256(b"one").hexdigest()
    together = hashlib.sha256(hashlib.sha256(b"one").digest() + hashlib.sha256(b"two").digest()).hexdigest()
    assert sha256_of_all([first, second]) == together != sha256_of_all([second, first])


@given(st.one_of(json_values.map(json.dumps).map(str.encode), damaged(b'{"a": [1, 2.5, "b"], "c": null}'), st.binary()))
@example(b"[" * 100_000)
@example(b'{"a": ' + b"9" * 5000 + b"}")
@example(b"\xff\xfe")
def test_any_bytes_are_an_object_or_are_refused_naming_the_file(tmp_path, content):
    path = tmp_path / "record.json"
    path.write_bytes(content)
    try:
        assert isinstance(read_json(path), dict)
    except DamagedFileError as error:
        assert str(error).startswith(str(path))


def test_a_missing_record_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"nowhere\.json: no such file"):
        read_json(tmp_path / "nowhere.json")
