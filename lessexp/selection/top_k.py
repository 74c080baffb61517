"""The cut: how many rows a fraction means, and which rows they are."""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
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


def top_k(
    scores: Float[Tensor, " n_scored"],
    example_ids: Sequence[str],
    *,
    k: int,
    pool_position: Mapping[str, int],
) -> list[str]:
    """The ids of the ``k`` best rows, best first; ties go to the row that comes first in the pool.

    Args:
        scores: one for each id.
        example_ids: the scored rows, in any order.
        k: from `budget`; if fewer rows were scored, all of them are selected.
        pool_position: where each id stands in the pool.

    Raises:
        ValueError: a score is NaN; the message names its example.
    """
    for offset in scores.isnan().nonzero()[:, 0].tolist():
        raise ValueError(f"the score of example '{example_ids[offset]}' is not a number, so it cannot be ranked")
    by_position = sorted(range(len(example_ids)), key=lambda index: pool_position[example_ids[index]])
    in_pool_order = scores[torch.tensor(by_position, dtype=torch.long)]
    order = in_pool_order.sort(descending=True, stable=True).indices[:k].tolist()
    return [example_ids[by_position[index]] for index in order]
