"""The cut: how many rows a fraction means, and which rows they are."""

import math
from collections.abc import Sequence

from jaxtyping import Float, Int64
from torch import Tensor

from lessexp.errors import UserError


class BudgetError(UserError, ValueError):
    """A fraction that is no share of the pool, or a pool without rows."""


def budget(fraction: float | int, n_pool: int) -> int:
    """Rows that a fraction of the pool means: ``floor(fraction * n_pool)``, but at least one.

    Raises:
        BudgetError: the fraction is not in (0, 1], or the pool holds no row.
    """
    if not 0 < fraction <= 1:
        raise BudgetError(f"fraction must be above 0 and at most 1, got {fraction}")
    if n_pool < 1:
        raise BudgetError("the pool holds no row to select")
    # 0.07 * 100 is 7.000000000000001 and 0.29 * 100 is 28.999999999999996; both mean whole rows.
    return max(1, math.floor(round(fraction * n_pool, 9)))


def ranking(scores: Float[Tensor, " n_scored"], example_ids: Sequence[str]) -> list[str]:
    """The ids, best first; ties go to the row that comes first.

    Args:
        scores: one for each id.
        example_ids: the scored rows in pool order.

    Raises:
        ValueError: a score is NaN; the message names its example.
    """
    for offset in scores.isnan().nonzero()[:, 0].tolist():
        raise ValueError(f"the score of example '{example_ids[offset]}' is not a number, so it cannot be ranked")
    return [example_ids[index] for index in scores.sort(descending=True, stable=True).indices.tolist()]


def rows_won(by_subtask: Float[Tensor, "n_selected n_subtask"]) -> Int64[Tensor, " n_subtask"]:
    """For each subtask, the rows that score higher for it than for any other; a tie is nobody's."""
    highest = by_subtask == by_subtask.amax(dim=1, keepdim=True)
    return highest[highest.sum(dim=1) == 1].sum(dim=0)
