import datetime
import decimal
import json

import numpy as np
import pytest

from lessexp.data.extra_columns import as_json, extra_of
from lessexp.data.record_files import RowError

TURNS = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
ROW = {"dataset": "d", "id": "a", "messages": TURNS}


def extra(record):
    found = extra_of(record, record["messages"], taken=("dataset", "id", "messages"), where="here")
    return found and json.loads(found)


def test_a_row_that_holds_nothing_else_has_none():
    assert extra(ROW) is None
    assert extra(ROW | {"messages": [turn | {"name": None} for turn in TURNS]}) is None


def test_other_columns_are_kept_as_they_are():
    others = {"stars": 5, "tags": ["a", 1, None], "meta": {"ü": 1.0, "deep": [{}]}, "none": None, "big": 2**80}
    assert extra(ROW | others) == others
    assert list(extra(ROW | others)) == list(others)
    assert extra(ROW | {"half": "\ud83d"}) == {"half": "\ud83d"}


@pytest.mark.parametrize(
    "more",
    [{"name": "ann"}, {"weight": 0}, {"tool_calls": [{"id": "c"}]}, {"content": [{"type": "text", "text": "?"}]}],
)
def test_messages_that_hold_more_than_role_and_text_are_kept_whole(more):
    messages = [TURNS[0] | more, TURNS[1]]
    assert extra(ROW | {"messages": messages}) == {"messages": messages}


def test_what_json_does_not_know_becomes_text_a_list_or_null():
    given = {
        "day": datetime.date(2026, 1, 2),
        "time": datetime.datetime(2026, 1, 2, 3, 4, 5),
        "price": decimal.Decimal("1.50"),
        "numbers": np.array([1, 2]),
        "number": np.float32(0.5),
        "pair": (1, "a"),
        "nothing": [float("nan"), float("inf")],
        "image": {"bytes": b"\x89PNG", "path": "a.png"},
        "object": object(),
        3: "three",
    }
    assert as_json(given) == {
        "day": "2026-01-02",
        "time": "2026-01-02T03:04:05",
        "price": "1.50",
        "numbers": [1, 2],
        "number": 0.5,
        "pair": [1, "a"],
        "nothing": [None, None],
        "image": {"bytes": None, "path": "a.png"},
        "object": None,
        "3": "three",
    }


def test_columns_nested_without_end_are_refused():
    endless: list = []
    endless.append(endless)
    with pytest.raises(RowError, match=r"^here: its other columns cannot be written as JSON"):
        extra(ROW | {"endless": endless})
