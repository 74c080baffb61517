import gzip
import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from lessexp.data import record_files
from lessexp.data.record_files import (
    Place,
    RowError,
    decoded_records,
    json_records,
    named,
    read_records,
    records_of,
    table_head,
)

RECORDS = [{"id": "a", "text": "Grüße\n日本語"}, {"id": "b", "text": 'a "quoted", part'}, {"id": "c", "text": ""}]
LINES = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS).encode()
BOM = b"\xef\xbb\xbf"
CSV = 'id,text\na,"Grüße\n日本語"\nb,"a ""quoted"", part"\nc,\n'.encode()
FILES = {
    "rows.jsonl": LINES,
    "ROWS.JSONL": LINES,
    "rows.ndjson": LINES,
    "rows.json": LINES,
    "rows": LINES,
    "bom.jsonl": BOM + LINES,
    "joined.jsonl": b"".join(BOM + line + b"\n" for line in LINES.splitlines()),
    "crlf.jsonl": b"\r\n" + LINES.replace(b"\n", b"\r\n") + b"  \r\n\r\n",
    "no_last_line_end.jsonl": LINES.rstrip(),
    "rows.jsonl.gz": gzip.compress(LINES),
    "rows.JSON.GZ": gzip.compress(LINES),
    "array.json": json.dumps(RECORDS).encode(),
    "pretty.json": BOM + b"\n" + json.dumps(RECORDS, indent=2).encode(),
    "array.jsonl": json.dumps(RECORDS, indent=2).encode(),
    "array.json.gz": gzip.compress(json.dumps(RECORDS).encode()),
    "rows.csv": CSV,
    "bom.csv": BOM + CSV.replace(b"\n\xe6", b"<>").replace(b"\n", b"\r\n").replace(b"<>", b"\n\xe6"),
    "rows.tsv": CSV.replace(b",", b"\t").replace(b"\t part", b", part"),
    "semicolons.csv": CSV.replace(b",", b";").replace(b"; part", b", part"),
    "tabs.csv": CSV.replace(b",", b"\t").replace(b"\t part", b", part"),
    "rows.csv.gz": gzip.compress(CSV),
}


def values(path):
    return [record for _, record in decoded_records(path)]


@pytest.mark.parametrize("name", FILES)
def test_every_usual_form_of_a_file_gives_the_same_records(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    assert values(path) == RECORDS


@pytest.mark.parametrize("name", ["rows.parquet", "ROWS.PARQUET"])
def test_parquet_gives_its_records(tmp_path, name):
    pyarrow.parquet.write_table(pa.Table.from_pylist(RECORDS), tmp_path / name)
    assert values(tmp_path / name) == RECORDS


def test_an_object_over_several_lines_is_one_record(tmp_path):
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"messages": []}, indent=2))
    assert [(str(where), record) for where, record in decoded_records(path)] == [(f"{path}, row 1", {"messages": []})]
    path.write_text(json.dumps({"version": 1, "data": RECORDS}, indent=2))
    with pytest.raises(RowError, match=r"one JSON object \(version, data\) and no list of rows; write the list alone"):
        values(path)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.jsonl.gz"])
def test_an_empty_file_holds_no_record(tmp_path, name):
    for content in (b"", b"\n \r\n", BOM):
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
        assert values(tmp_path / name) == []


def test_a_place_names_file_and_line_and_the_row_where_lines_mean_nothing(tmp_path):
    lines, array, table = (tmp_path / name for name in ("a.jsonl", "b.json", "c.csv"))
    lines.write_bytes(b"\n" + LINES)
    array.write_text(json.dumps(RECORDS))
    table.write_bytes(CSV)
    found = [[(place, place.file, place.line) for place, _ in decoded_records(path)] for path in (lines, array, table)]
    assert found == [
        [(f"{lines}, line {n}", str(lines), n) for n in (2, 3, 4)],
        [(f"{array}, row {n}", str(array), n) for n in (1, 2, 3)],
        [(f"{table}, row {n}", str(table), n) for n in (1, 2, 3)],
    ]


def test_a_line_that_cannot_be_decoded_stands_among_the_others_as_its_error(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'["a row"]\n{"id": \n"caf\xe9"\n7\n')
    first, second, third, last = values(path)
    assert (first, last) == (["a row"], 7)
    for error, number in ((second, 2), (third, 3)):
        assert isinstance(error, RowError) and str(error).startswith(f"{path}, line {number}: not valid JSON")
    for reading in (json_records(path), read_records([path])):
        with pytest.raises(RowError, match="line 2: not valid JSON"):
            list(reading)


def test_a_table_row_with_too_many_cells_is_its_error_and_a_short_one_lacks_columns(tmp_path):
    (tmp_path / "rows.csv").write_text("dataset,id,text\n,,x\na\na,b,c,d\n")
    first, second, third = values(tmp_path / "rows.csv")
    assert (first, second) == ({"text": "x"}, {"dataset": "a"})
    assert str(third).endswith("row 3: has more cells than the file has columns")
    assert table_head(tmp_path / "rows.csv") == (",", ["dataset", "id", "text"])


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("rows.json", json.dumps(RECORDS).encode()[:-9], "not a whole JSON array"),
        ("rows.json", b"[" * 100_000, "not a whole JSON array"),
        ("rows.jsonl", "".join(map(json.dumps, RECORDS)).encode("utf-16"), "its text is UTF-16; save it as UTF-8"),
        ("rows.csv", CSV.decode().encode("latin-1", "replace"), "not a table in UTF-8"),
        ("rows.csv.gz", gzip.compress(CSV, mtime=0)[:-9], "not a whole gzip file"),
        ("rows.jsonl.gz", LINES, "not a whole gzip file"),
        ("rows.parquet", b"", "not a whole Parquet file"),
    ],
)
def test_a_file_that_cannot_be_decoded_as_such_is_raised_by_name(tmp_path, name, content, complaint):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RowError, match=complaint) as refused:
        values(path)
    assert str(refused.value).startswith(str(path))


def test_a_cell_may_be_long(tmp_path):
    (tmp_path / "rows.csv").write_text(f"text\n{'x' * 200_000}\n")
    assert values(tmp_path / "rows.csv") == [{"text": "x" * 200_000}]


def test_lines_are_read_one_at_a_time(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(LINES)
    records = decoded_records(path)
    next(records)
    with path.open("ab") as file:
        file.write(b"{}\n" * 100_000)  # far more than a buffer holds
    assert sum(1 for _ in records) == 100_002


def test_a_record_without_names_gets_them_from_its_file_and_line(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "pool.jsonl").write_text('\n{"x": 1}\n{"id": 7, "dataset": null}\n{"id": "k"}\n[]\n')
    alone = [record for _, record in records_of([tmp_path / "a" / "pool.jsonl"])]
    names = {"dataset": "pool", "id": "pool-2"}
    assert alone == [{"x": 1} | names, {"dataset": "pool", "id": "7"}, {"dataset": "pool", "id": "k"}, []]
    both = [record for _, record in records_of([tmp_path / name / "pool.jsonl" for name in ("a", "b")])]
    assert [both[0]["id"], both[4]["id"]] == ["a/pool.jsonl-2", "b/pool.jsonl-2"]
    assert both[4]["dataset"] == "pool"


def test_only_whole_numbers_become_ids():
    for example_id in (True, 7.0, "", ["a"]):
        record = {"id": example_id, "dataset": "d"}
        assert named(record, dataset="x", example_id="y") == record


def test_a_place_is_the_text_of_an_error():
    place = Place("rows.jsonl, line 3", file="rows.jsonl", line=3)
    assert f"{place}: no" == "rows.jsonl, line 3: no"


@pytest.fixture
def small_bounds(monkeypatch):
    monkeypatch.setattr(record_files, "LARGEST_LINE", 100)
    monkeypatch.setattr(record_files, "LARGEST_ARRAY", 1000)


@pytest.mark.parametrize("long", [b'{"id": "' + b"x" * 500 + b'"}', b" " * 500, b'{"id": "' + b"x" * 92 + b'"}'])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("ending", ["jsonl", "json"])
def test_a_line_that_is_too_long_is_refused_by_number_and_the_next_one_read(tmp_path, small_bounds, long, pack, ending):
    path = tmp_path / (f"rows.{ending}" if pack is bytes else f"rows.{ending}.gz")
    path.write_bytes(pack(b"\n".join([b'{"id": "a"}', long, b'{"id": "b"}', b'{"id": "' + b"y" * 88 + b'"}'])))
    first, second, third, longest = (record for _, record in decoded_records(path))
    assert (first, third, longest) == ({"id": "a"}, {"id": "b"}, {"id": "y" * 88})
    assert str(second) == f"{path}, line 2: holds more than 100 bytes, which is too much for a row"


def test_a_first_line_that_is_too_long_is_refused(tmp_path, small_bounds):
    for start in (b"{", b" " * 200 + b"{"):
        path = tmp_path / "rows.json"
        path.write_bytes(start + b'"id": "' + b"x" * 500 + b'"}\n{"id": "b"}')
        (_, first), (_, second) = decoded_records(path)
        assert "line 1: holds more than 100 bytes" in str(first) and second == {"id": "b"}


def test_an_array_may_be_longer_than_a_line_but_not_without_end(tmp_path, small_bounds):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(RECORDS * 3))
    assert values(path) == RECORDS * 3
    path.write_text(json.dumps(RECORDS * 30))
    with pytest.raises(RowError, match=r"more than 1,000 bytes in one JSON array; write a row a line, as `jq -c"):
        values(path)


def test_a_tables_line_or_cell_that_is_too_long_is_refused(tmp_path, small_bounds):
    path = tmp_path / "rows.csv"
    path.write_text("id,text\na," + "x" * 500)
    with pytest.raises(RowError, match=r"rows\.csv, line 2: holds more than 100 characters"):
        values(path)
    path.write_text('id,text\na,"' + "x\n" * 500)
    with pytest.raises(RowError, match="field larger than field limit"):
        values(path)
