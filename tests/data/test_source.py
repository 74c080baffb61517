import shutil

import pytest

from lessexp.data.rows import read_rows, write_rows
from lessexp.data.source import RowFiles, RowSource, one_of_both
from lessexp.errors import MissingFileError
from tests.conftest import make_rows


def test_files_are_identical_by_content_order_and_names_not_by_folder(tmp_path):
    write_rows(tmp_path / "a.jsonl", make_rows(3))
    write_rows(tmp_path / "b.jsonl", make_rows(3, prefix="other"))
    (tmp_path / "folder").mkdir()
    a, b, moved, renamed = (tmp_path / name for name in ("a.jsonl", "b.jsonl", "folder/a.jsonl", "c.jsonl"))
    for copy in (moved, renamed):
        shutil.copy(a, copy)
    assert RowFiles([a, b]).identity() == RowFiles([moved, b]).identity()
    others = [RowFiles(files).identity() for files in ([a], [a, b], [b, a], [b], [renamed, b], [a, moved])]
    assert all(others.count(other) == 1 for other in others)


def test_rows_that_are_left_out_are_listed_by_file_so_its_folder_counts(tmp_path):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "a.jsonl", tmp_path / "folder" / "a.jsonl"):
        write_rows(path, make_rows(3))
    here, there = ([tmp_path / "a.jsonl"], [tmp_path / "folder" / "a.jsonl"])
    identities = [
        RowFiles(files, skips_bad_rows=skips).identity() for skips in (True, False) for files in (here, there)
    ]
    assert identities[0] not in identities[1:] and identities[1] not in identities[2:]


@pytest.mark.parametrize("given", [0, {"a": 1}, ["a.jsonl", 7]])
def test_a_path_that_is_none_is_refused_by_its_key(given):
    with pytest.raises(MissingFileError, match=r"data\.path must be a path or a list of paths, got "):
        one_of_both(given, given)


def test_records_are_those_of_the_files(tmp_path):
    write_rows(tmp_path / "a.jsonl", make_rows(3))
    source = RowFiles([tmp_path / "a.jsonl"])
    assert isinstance(source, RowSource)
    assert [record for _, record in source.records()] == [row.to_json() for row in read_rows(source.paths)]
