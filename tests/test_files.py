import json

import pytest

from lessexp.files import write_json


def test_a_record_comes_back_and_nothing_else_is_left(tmp_path):
    write_json(tmp_path / "a.json", {"name": "Ünïcode ☃", "n": 1})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"name": "Ünïcode ☃", "n": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_record_that_cannot_be_written_leaves_the_old_one(tmp_path):
    write_json(tmp_path / "a.json", {"n": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"n": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"n": 1}
