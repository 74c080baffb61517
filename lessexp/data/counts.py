"""Whether a pool holds as many rows as it should."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lessexp.data.source import ExpectedCounts


def compare_counts(datasets: Iterable[str], expected: ExpectedCounts | None) -> dict[str, Any]:
    """Rows of each data set, found and expected.

    Args:
        datasets: one name for each row.
        expected: None compares nothing, None for a data set takes any number; one that is not named is not expected.

    Returns:
        ``found`` and ``expected`` by data set, and of both under ``differences`` those that disagree.
    """
    found = Counter(datasets)
    wanted = {} if expected is None else dict.fromkeys(found, 0) | dict(expected)
    differences = {
        name: {"expected": number, "found": found[name]}
        for name, number in wanted.items()
        if number is not None and number != found[name]
    }
    return {
        "found": dict(found),
        "expected": None if expected is None else dict(expected),
        "differences": differences,
    }


def count_warnings(counts: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each difference that `compare_counts` found, and how to accept them."""
    for name, numbers in counts["differences"].items():
        yield f"warning: the pool holds {numbers['found']:,} rows of '{name}', {numbers['expected']:,} are expected"
    if counts["differences"]:
        n_found, n_expected = (
            sum(number or 0 for number in numbers.values()) for numbers in (counts["found"], counts["expected"])
        )
        yield (
            f"warning: {n_found:,} pool rows in all, {n_expected:,} are expected; "
            "results will not be those of the full pool (data.counts= takes other numbers, or null)"
        )
