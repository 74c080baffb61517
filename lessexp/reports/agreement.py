"""How well one set of scores agrees with another that is taken as true."""

import torch
from jaxtyping import Float
from torch import Tensor


def average_ranks(values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Rank of each value from 1, in float64; equal values share the mean of their places."""
    _, group, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[group]


def spearman(first: Float[Tensor, " n"], second: Float[Tensor, " n"]) -> float:
    """Rank correlation: Pearson's correlation of the average ranks. NaN where all values of one side are equal."""
    return torch.corrcoef(torch.stack([average_ranks(first), average_ranks(second)]))[0, 1].item()


def top_overlap(found: Float[Tensor, " n"], exact: Float[Tensor, " n"], *, k: int) -> float:
    """Share of the ``k`` best that both scores name; ties go to the row that comes first."""
    best_found, best_exact = (scores.argsort(descending=True, stable=True)[:k] for scores in (found, exact))
    return torch.isin(best_found, best_exact).double().mean().item()
