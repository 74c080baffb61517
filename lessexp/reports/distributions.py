"""How scores and answer lengths are spread over the pool and over what was selected."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, Shaped

from lessexp.reports.agreement import spearman


@dataclass(frozen=True)
class Histogram:
    """Groups of values counted in the same bins.

    Attributes:
        edges: of the bins, ascending, one more than there are bins.
        counts: values in each bin by group; a bin holds its lower edge, the last one its upper edge too.
        n_unbounded: values that are infinite or no number and stand in no bin.
    """

    edges: list[float]
    counts: dict[str, list[int]]
    n_unbounded: int


@dataclass(frozen=True)
class LengthGroup:
    """Rows whose answers are about equally long.

    Attributes:
        shortest: answer of the group [characters].
        longest: answer of the group [characters].
        n_rows: in the group.
        median_score: of its rows.
        n_selected: of its rows, how many were selected.
    """

    shortest: int
    longest: int
    n_rows: int
    median_score: float
    n_selected: int


def even_edges(values: Shaped[np.ndarray, " n"], *, n_bins: int) -> list[float]:
    """Edges of bins of one width that hold all finite values."""
    finite = values[np.isfinite(values)].astype(np.float64)
    lowest, highest = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    if lowest == highest:
        return [lowest - 0.5, lowest + 0.5]
    return np.linspace(lowest, highest, n_bins + 1).tolist()


def length_edges(lengths: Int64[np.ndarray, " n"], *, n_bins: int) -> list[float]:
    """Edges between whole numbers of bins that widen by a factor, for lengths of several orders of magnitude."""
    shortest, longest = int(lengths.min()), int(lengths.max())
    edges = np.unique(np.geomspace(max(shortest, 1), longest + 2, n_bins + 1).round())
    edges[-1] = longest + 1
    return np.unique([shortest, *edges]).astype(np.float64).tolist()


def histogram(groups: Mapping[str, Shaped[np.ndarray, " _"]], edges: list[float]) -> Histogram:
    """Count each group's values between the same edges."""
    finite = {name: values[np.isfinite(values)] for name, values in groups.items()}
    counts = {name: np.histogram(values, bins=edges)[0].tolist() for name, values in finite.items()}
    n_unbounded = sum(len(values) for values in groups.values()) - sum(map(len, finite.values()))
    return Histogram(edges, counts, n_unbounded)


def length_groups(
    lengths: Int64[np.ndarray, " n"], scores: Float[np.ndarray, " n"], selected: Shaped[np.ndarray, " n"], *, n: int
) -> list[LengthGroup]:
    """Rows from the shortest to the longest answer, in up to ``n`` groups of as many rows each."""
    order = np.argsort(lengths, kind="stable")
    return [
        LengthGroup(
            shortest=int(lengths[group[0]]),
            longest=int(lengths[group[-1]]),
            n_rows=len(group),
            median_score=float(np.median(scores[group])),
            n_selected=int(selected[group].sum()),
        )
        for group in np.array_split(order, n)
        if len(group)
    ]


def rank_correlation(first: Shaped[np.ndarray, " n"], second: Shaped[np.ndarray, " n"]) -> float | None:
    """Spearman's; None where one side has fewer than two different values."""
    if len(np.unique(first)) < 2 or len(np.unique(second)) < 2:
        return None
    return spearman(*(torch.from_numpy(values.astype(np.float64)) for values in (first, second)))


def sample_of(n: int, *, n_sampled: int, rng: np.random.Generator) -> Int64[np.ndarray, " n_kept"]:
    """Places of up to ``n_sampled`` of ``n`` values, drawn at random, ascending."""
    if n <= n_sampled:
        return np.arange(n, dtype=np.int64)
    return np.sort(rng.choice(n, size=n_sampled, replace=False)).astype(np.int64)


def shares(counts: list[int]) -> Float64[np.ndarray, " n_bins"]:
    """Counts as parts of their sum; zeros if there is nothing."""
    return np.array(counts, dtype=np.float64) / max(sum(counts), 1)
