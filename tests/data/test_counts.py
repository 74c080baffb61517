import pytest

from lessexp.data.counts import compare_counts, count_warnings

FOUND = ["dolly", "cot", "dolly", "dolly"]


@pytest.mark.parametrize("expected", [None, {"dolly": 3, "cot": 1}, {"dolly": 3, "cot": None}])
def test_numbers_as_expected_or_not_known_are_no_difference(expected):
    counts = compare_counts(FOUND, expected)
    assert counts == {"found": {"dolly": 3, "cot": 1}, "expected": expected, "differences": {}}
    assert list(count_warnings(counts)) == []


def test_missing_further_and_unexpected_rows_are_named_by_source_and_in_all():
    counts = compare_counts(FOUND, {"dolly": 15011, "oasst1": 2})
    assert counts["differences"] == {
        "dolly": {"expected": 15011, "found": 3},
        "cot": {"expected": 0, "found": 1},
        "oasst1": {"expected": 2, "found": 0},
    }
    warnings = list(count_warnings(counts))
    assert len(warnings) == 4
    assert any("3 rows of 'dolly', 15,011 are expected" in warning for warning in warnings)
    assert "4 pool rows in all, 15,013 are expected" in warnings[-1]
    assert "data.counts=" in warnings[-1]
