import pytest

from lessexp.data.bad_rows import BAD_ROW_SCHEMA, BadRow, bad_row_table, refuse_if_all_are_bad
from lessexp.data.record_files import Place, RowError

BAD = [
    BadRow("a", Place("rows.jsonl, line 3", file="rows.jsonl", line=3), "unknown role 'tool'"),
    BadRow(None, "pool[4]", "no object"),
]


def test_a_table_names_file_and_line_of_rows_that_are_in_a_file():
    table = bad_row_table(BAD)
    assert table.schema == BAD_ROW_SCHEMA == bad_row_table([]).schema
    assert table.to_pylist() == [
        {"example_id": "a", "reason": "unknown role 'tool'", "file": "rows.jsonl", "line": 3},
        {"example_id": None, "reason": "no object", "file": None, "line": None},
    ]


def test_a_pool_of_bad_rows_alone_is_refused_by_the_first():
    refuse_if_all_are_bad(0, bad_row_table([]))
    refuse_if_all_are_bad(1, bad_row_table(BAD))
    complaint = "none of the pool's 2 rows can be read; the first, rows.jsonl, line 3: unknown role 'tool'"
    with pytest.raises(RowError, match=complaint):
        refuse_if_all_are_bad(0, bad_row_table(BAD))
