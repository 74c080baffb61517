import shutil

from lessexp.data.rows import read_rows, write_rows
from lessexp.data.source import RowFiles, RowSource
from tests.conftest import make_rows


def test_files_are_identical_by_content_and_order_not_by_name(tmp_path):
    write_rows(tmp_path / "a.jsonl", make_rows(3))
    write_rows(tmp_path / "b.jsonl", make_rows(3, prefix="other"))
    shutil.copy(tmp_path / "a.jsonl", tmp_path / "copy.jsonl")
    a, b, copy = (tmp_path / f"{name}.jsonl" for name in ("a", "b", "copy"))
    assert RowFiles([a, b]).identity() == RowFiles([copy, b]).identity()
    others = [RowFiles(files).identity() for files in ([a], [a, b], [b, a], [b])]
    assert all(others.count(other) == 1 for other in others)


def test_records_are_those_of_the_files(tmp_path):
    write_rows(tmp_path / "a.jsonl", make_rows(3))
    source = RowFiles([tmp_path / "a.jsonl"])
    assert isinstance(source, RowSource)
    assert [record for _, record in source.records()] == [row.to_json() for row in read_rows(source.paths)]
