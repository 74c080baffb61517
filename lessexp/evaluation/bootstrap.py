"""How far a mean over test rows could have come out otherwise: percentile intervals by the bootstrap (Efron 1979).

Rows are drawn anew within each subtask. Columns of values that belong to the same rows (base, tuned, their difference)
are drawn together, so that the interval of a difference is a paired one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from lessexp.data.seeds import derived_seed

_NUMBERS_AT_ONCE = 4_000_000  # bounds memory


@dataclass(frozen=True)
class Intervals:
    """Lower and upper end for each column.

    They have no width where a subtask has one row, or rows of one value, and are NaN where a row's value is.

    Attributes:
        mean: of the mean of the subtasks' means.
        by_subtask: of the mean of each subtask.
    """

    mean: Float64[np.ndarray, "columns 2"]
    by_subtask: dict[str, Float64[np.ndarray, "columns 2"]]


def resampled_means(
    values: Float64[np.ndarray, "rows columns"], *, n_resamples: int, seed: int
) -> Float64[np.ndarray, "n_resamples columns"]:
    """Means of as many rows as there are, drawn with replacement, time after time."""
    generator = np.random.default_rng(seed)
    n_rows = len(values)
    n_at_once = max(1, _NUMBERS_AT_ONCE // n_rows)
    means = []
    for start in range(0, n_resamples, n_at_once):
        drawn = generator.integers(n_rows, size=(min(n_at_once, n_resamples - start), n_rows))
        means.append(np.stack([column[drawn].mean(axis=1) for column in values.T], axis=1))
    return np.concatenate(means)


def bootstrap(
    values: Mapping[str, Float64[np.ndarray, "_ columns"]], *, n_resamples: int, confidence: float, seed: int
) -> Intervals:
    """Intervals for every column of values.

    Args:
        values: of the rows of each subtask.
        n_resamples: how often rows are drawn anew.
        confidence: share of resamples within the interval.
        seed: of the draws; each subtask's are its own.

    Raises:
        ValueError: there is no subtask, or one without rows.
    """
    if not values or not all(map(len, values.values())):
        raise ValueError("intervals need a row of each subtask, and a subtask")
    tails = ((1 - confidence) / 2, (1 + confidence) / 2)
    means = {
        subtask: resampled_means(rows, n_resamples=n_resamples, seed=derived_seed(seed, "bootstrap", subtask))
        for subtask, rows in values.items()
    }

    def ends(resamples: Float64[np.ndarray, "n_resamples columns"]) -> Float64[np.ndarray, "columns 2"]:
        return np.quantile(resamples, tails, axis=0).T

    of_mean = np.mean(list(means.values()), axis=0)
    return Intervals(ends(of_mean), {subtask: ends(resamples) for subtask, resamples in means.items()})
