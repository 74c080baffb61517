"""The cut: how many rows a fraction means, and which rows they are."""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lessexp.data.seeds import uniform_of
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


def aggregated_and_ranked(
    by_subtask: Float[Tensor, "n_scored n_subtask"],
    example_ids: Sequence[str],
    aggregate: Callable[[Tensor], Tensor],
    *,
    seed: int,
) -> tuple[Float[Tensor, " n_scored"], list[str]]:
    """One score for each row, and the ids, best first; ties are broken by the seed, whatever the order of the rows.

    Args:
        by_subtask: scores of each row.
        example_ids: of the rows.
        aggregate: see `lessexp.influence.aggregate`; of equal rows it, too, prefers the first.
        seed: of the order of equal rows.

    Raises:
        ValueError: see `ranking`.
    """
    order = uniform_of(seed, "ties", example_ids).argsort()
    shuffled = aggregate(by_subtask[order])
    best_first = ranking(shuffled, [example_ids[index] for index in order.tolist()])
    return shuffled[order.argsort()], best_first


def tied_with_others(
    scores: Float[Tensor, "n_scored _n_columns"],
    is_selected: Bool[Tensor, " n_scored"],
    is_copy: Bool[Tensor, " n_scored"],
) -> Bool[Tensor, " n_scored"]:
    """Which selected rows have the same scores as a row that was left out and copies none."""
    values, group = scores.unique(dim=0, return_inverse=True)
    is_left_out = torch.zeros(len(values), dtype=torch.bool)
    is_left_out[group[~is_selected & ~is_copy]] = True
    return is_selected & is_left_out[group]


def rows_won(by_subtask: Float[Tensor, "n_selected n_subtask"]) -> Int64[Tensor, " n_subtask"]:
    """For each subtask, the rows that score higher for it than for any other; a tie is nobody's."""
    highest = by_subtask == by_subtask.amax(dim=1, keepdim=True)
    return highest[highest.sum(dim=1) == 1].sum(dim=0)
