import json
from dataclasses import replace

import pytest
from datasets import Dataset
from datasets.table import InMemoryTable

from lessexp.data.arrow_rows import datasets_of, rows_in_memory, table_of_rows
from lessexp.data.rows import Row, fingerprint
from tests.conftest import make_rows

UNUSUAL = [
    Row("dolly", "a", (("system", "Be brief."), ("user", "naïve 👍🏽?"), ("assistant", "日本語\nشكرا"))),
    Row("cot", "\x85", (("user", "one\u2028two\x0bthree\x00"), ("assistant", ""))),
    replace(make_rows(1, target=True)[0], example_id="c", extra='{"stars": 5}'),
]


def test_a_table_has_a_column_for_each_that_a_row_has():
    given = [{"stars": 5, "meta": {"a": 1}}, {"meta": {"b": "x"}, "none": None}, {}]
    rows = [
        replace(row, extra=json.dumps(extra) if extra else None) for row, extra in zip(make_rows(3), given, strict=True)
    ]
    table = table_of_rows(rows)
    assert table.column_names == ["dataset", "id", "messages", "stars", "meta", "none"]
    records = [dict.fromkeys(table.column_names) | row.to_json() for row in rows]
    assert Dataset(InMemoryTable(table)).to_list() == Dataset.from_list(records).to_list()
    assert table_of_rows(make_rows(3)).to_pylist() == [row.to_json() for row in make_rows(3)]
    assert table_of_rows([]).column_names == ["dataset", "id", "messages"]


@pytest.mark.parametrize("values", [[1, "two", None], [{"a": 1}, [2], True], [2**80, 1, 1], [["a"], "ü", 0.5]])
def test_values_without_a_common_type_become_json_text(values):
    rows = [replace(row, extra=json.dumps({"x": value})) for row, value in zip(make_rows(3), values, strict=True)]
    found = table_of_rows(rows)["x"].to_pylist()
    assert found == [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]


def test_messages_keep_their_other_fields_where_arrow_can_hold_them():
    row, other = make_rows(2)
    named = [turn | {"weight": 1} for turn in row.to_json()["messages"]]
    mixed = [turn | {"weight": "much"} for turn in other.to_json()["messages"]]
    rows = [replace(row, extra=json.dumps({"messages": named})), other]
    found = table_of_rows(rows)["messages"].to_pylist()
    assert found == [named, [turn | {"weight": None} for turn in other.to_json()["messages"]]]
    rows[1] = replace(other, extra=json.dumps({"messages": mixed}))
    assert table_of_rows(rows)["messages"].to_pylist() == [one.content()["messages"] for one in rows]


@pytest.mark.parametrize("rows", [UNUSUAL, UNUSUAL[:2], []])
def test_rows_come_back_as_they_went_in(rows):
    stored = rows_in_memory(iter(rows))
    assert list(stored) == rows
    assert fingerprint(stored) == fingerprint(rows)
    assert datasets_of(stored) == datasets_of(rows) == [row.dataset for row in rows]
    assert stored.ids == [row.example_id for row in rows]
