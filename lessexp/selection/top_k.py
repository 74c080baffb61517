"""The cut: how many rows a fraction means, and which rows they are."""

import math
from collections.abc import Sequence

from jaxtyping import Float, Int64
from torch import Tensor

from lessexp.errors import UserError


class BudgetError(UserError, ValueError):
    """A fraction that selects nothing or more than there is."""


def budget(fraction: float | int, n_pool: int) -> int:
    """Rows that a fraction of the pool means: ``floor(fraction * n_pool)``.

    Raises:
        BudgetError: the fraction is not in (0, 1], or selects no row.
    """
    if not 0 < fraction <= 1:
        raise BudgetError(f"fraction must be above 0 and at most 1, got {fraction}")
    # 0.07 * 100 is 7.000000000000001 and 0.29 * 100 is 28.999999999999996; both mean whole rows.
    n_selected = math.floor(round(fraction * n_pool, 9))
    if n_selected == 0:
        advice = f"; use at least {math.ceil(1e6 / n_pool) / 1e6}" if n_pool else ""
        raise BudgetError(f"fraction={fraction} of {n_pool} pool rows selects none{advice}")
    return n_selected


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
