import itertools

import numpy as np
import pytest

from lessexp.reports.distributions import (
    even_edges,
    histogram,
    length_edges,
    length_groups,
    rank_correlation,
    sample_of,
)


def brute_force(values, edges):
    last = len(edges) - 2
    return [
        sum(low <= value < high or (i == last and value == high) for value in values)
        for i, (low, high) in enumerate(itertools.pairwise(edges))
    ]


def test_histograms_count_as_brute_force_does():
    rng = np.random.default_rng(0)
    pool = rng.normal(size=500)
    lengths = rng.integers(0, 3000, size=400)
    for values, edges in ((pool, even_edges(pool, n_bins=24)), (lengths, length_edges(lengths, n_bins=24))):
        counted = histogram({"pool": values, "selected": values[:50]}, edges)
        assert counted.counts["pool"] == brute_force(values.tolist(), edges)
        assert counted.counts["selected"] == brute_force(values[:50].tolist(), edges)
        assert sum(counted.counts["pool"]) == len(values) and counted.n_unbounded == 0


@pytest.mark.parametrize("lengths", [[5, 5], [0], [0, 1], [1, 2, 3], [0, 100_000]])
def test_every_length_has_a_bin_and_bins_hold_whole_numbers(lengths):
    edges = length_edges(np.array(lengths), n_bins=24)
    assert edges == sorted(set(map(round, edges)))
    assert sum(histogram({"pool": np.array(lengths)}, edges).counts["pool"]) == len(lengths)


def test_equal_scores_share_one_bin_and_infinite_ones_have_none():
    ones = np.ones(3, dtype=np.float32)
    assert histogram({"pool": ones}, even_edges(ones, n_bins=24)).counts == {"pool": [3]}
    odd = np.array([0.0, 1.0, -np.inf, np.nan])
    counted = histogram({"pool": odd}, even_edges(odd, n_bins=2))
    assert (counted.edges, counted.counts, counted.n_unbounded) == ([0.0, 0.5, 1.0], {"pool": [1, 1]}, 2)


def test_length_groups_hold_all_rows_from_short_to_long():
    lengths, scores = np.array([9, 1, 5, 3, 7]), np.array([0.9, 0.1, 0.5, 0.3, 0.7])
    first, second = length_groups(lengths, scores, scores > 0.6, n=2)
    assert (first.shortest, first.longest, first.n_rows, first.n_selected) == (1, 5, 3, 0)
    assert (second.shortest, second.longest, second.n_rows, second.n_selected) == (7, 9, 2, 2)
    assert (first.median_score, second.median_score) == (0.3, pytest.approx(0.8))


def test_there_is_no_rank_correlation_where_one_side_never_differs():
    rising = np.arange(5)
    assert rank_correlation(rising, np.exp(rising)) == pytest.approx(1)
    assert rank_correlation(rising, np.zeros(5)) is None


def test_a_sample_is_all_or_a_drawn_part_in_order():
    assert sample_of(3, n_sampled=5, rng=np.random.default_rng(0)).tolist() == [0, 1, 2]
    drawn = sample_of(1000, n_sampled=5, rng=np.random.default_rng(0)).tolist()
    assert len(set(drawn)) == 5 and drawn == sorted(drawn) and max(drawn) < 1000
