import errno
import hashlib
import json
import math
import os
import pwd
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors import SafetensorError

from lessexp.errors import DamagedFileError, MissingFileError
from lessexp.files import (
    changed_files,
    hashes_of,
    read_json,
    remove_whole,
    sha256_of,
    sha256_of_all,
    user_path,
    write_json,
    written_whole,
)
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


def test_a_folder_appears_whole_and_takes_the_place_of_the_old_one(tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "old").write_text("1")
    (tmp_path / "adapter.partial").mkdir()
    (tmp_path / "adapter.partial" / "of a process that was killed").write_text("1")
    with written_whole(tmp_path / "adapter") as partial:
        partial.mkdir()
        (partial / "new").write_text("2")
        assert (tmp_path / "adapter" / "old").exists()
    assert [path.name for path in (tmp_path / "adapter").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_what_is_written_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    settled = []
    monkeypatch.setattr(os, "fsync", lambda number: settled.append(Path(os.readlink(f"/proc/self/fd/{number}"))))
    with written_whole(tmp_path / "folder") as partial:
        (partial / "inner").mkdir(parents=True)
        (partial / "inner" / "a").write_text("a")
    assert settled == [tmp_path / "folder.partial" / "inner" / "a"]
    write_json(tmp_path / "b", {})
    assert settled[1:] == [tmp_path / "b.partial"]


def test_a_folder_disappears_whole_or_not_at_all(tmp_path, monkeypatch):
    def killed(path):
        raise KeyboardInterrupt

    folder = tmp_path / "epochs"
    (folder / "epoch=1").mkdir(parents=True)
    (folder / "epoch=1" / "weights").write_text("1")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("lessexp.files.shutil.rmtree", killed)
        remove_whole(folder)
    assert not folder.exists()
    folder.mkdir()
    remove_whole(folder)
    assert list(tmp_path.iterdir()) == [], "what a killed process left goes too"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"),
    ],
    ids=["Python", "safetensors", "Arrow"],
)
def test_a_refusal_names_the_file_and_leaves_nothing_of_it(tmp_path, error):
    path = tmp_path / "moments.safetensors"
    with pytest.raises(OSError, match="No space left") as refused, written_whole(path) as partial:
        partial.write_text("half")
        raise error
    assert (refused.value.errno, refused.value.filename) == (errno.ENOSPC, str(path))
    assert not list(tmp_path.iterdir())


def test_an_error_about_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as error, written_whole(tmp_path / "a"):
        (tmp_path / "rows").read_text()
    assert error.value.filename == str(tmp_path / "rows")


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


def test_only_a_tilde_at_the_start_stands_for_a_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir("/")
    assert user_path("~/a") == tmp_path / "a"
    assert user_path("~") == tmp_path
    assert user_path(Path("~/a")) == tmp_path / "a"
    assert user_path("~root/a") == Path(pwd.getpwnam("root").pw_dir) / "a"
    for name in ("a~b", "./~", "backup~", "-"):
        assert str(user_path(name)) == str(Path(name))
    assert user_path("~nobody-of-this-name/a").expanduser() == Path("/~nobody-of-this-name/a")


def test_json_is_strict_whatever_numbers_it_holds(tmp_path):
    write_json(tmp_path / "a.json", {"a": math.nan, "b": [1.5, (math.inf, -math.inf)], "c": {"d": 0.0, "e": True}})
    text = (tmp_path / "a.json").read_text()
    assert not {"NaN", "Infinity"} & set(re.findall(r"\w+", text))
    assert read_json(tmp_path / "a.json") == {"a": None, "b": [1.5, [None, None]], "c": {"d": 0.0, "e": True}}


def test_files_that_are_missing_or_altered_differ_from_their_hashes(tmp_path):
    (tmp_path / "in").mkdir()
    files = [tmp_path / "in" / "b", tmp_path / "a", tmp_path / "c"]
    for file in files:
        file.write_text(file.name)
    hashes = hashes_of(files, within=tmp_path)
    assert list(hashes) == ["a", "c", "in/b"]
    assert changed_files(tmp_path, hashes) == []
    (tmp_path / "a").write_text("other")
    (tmp_path / "in" / "b").unlink()
    assert changed_files(tmp_path, hashes) == ["a", "in/b"]
