from dataclasses import replace

import pytest

from lessexp.data.arrow_rows import datasets_of, rows_in_memory
from lessexp.data.rows import Row, fingerprint
from tests.conftest import make_rows

UNUSUAL = [
    Row("dolly", "a", (("system", "Be brief."), ("user", "naïve 👍🏽?"), ("assistant", "日本語\nشكرا"))),
    Row("cot", "\x85", (("user", "one\u2028two\x0bthree\x00"), ("assistant", ""))),
    replace(make_rows(1, target=True)[0], example_id="c"),
]


@pytest.mark.parametrize("rows", [UNUSUAL, UNUSUAL[:2], []])
def test_rows_come_back_as_they_went_in(rows):
    stored = rows_in_memory(iter(rows))
    assert list(stored) == rows
    assert fingerprint(stored) == fingerprint(rows)
    assert datasets_of(stored) == datasets_of(rows) == [row.dataset for row in rows]
    assert stored.ids == [row.example_id for row in rows]
