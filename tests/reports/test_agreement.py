import pytest
import torch

from lessexp.reports.agreement import average_ranks, spearman, top_overlap


def test_spearman_is_the_correlation_of_ranks():
    values = torch.tensor([0.1, 0.5, 0.2, 0.9])
    assert spearman(values, values.exp()) == pytest.approx(1)
    assert spearman(values, -values) == pytest.approx(-1)
    # One swap of neighbours among four: 1 - 6 * 2 / (4 * 15).
    assert spearman(values, torch.tensor([0.2, 0.5, 0.1, 0.9])) == pytest.approx(0.8)


def test_equal_values_share_the_mean_of_their_ranks():
    ranks = average_ranks(torch.tensor([3.0, 1.0, 3.0, 3.0, 0.0, 1.0]))
    assert ranks.tolist() == [5, 2.5, 5, 5, 1, 2.5]


def test_ties_count_as_in_scipy():
    stats = pytest.importorskip("scipy.stats")
    generator = torch.Generator().manual_seed(0)
    for n_values in (2, 5, 1000):
        first, second = (torch.randint(n_values, (40,), generator=generator).float() for _ in range(2))
        expected = stats.spearmanr(first.numpy(), second.numpy()).statistic
        assert spearman(first, second) == pytest.approx(expected, abs=1e-12)


def test_the_overlap_is_the_share_of_the_best_that_both_name():
    exact = torch.tensor([0.9, 0.8, 0.7, 0.1, 0.0])
    assert top_overlap(exact, exact, k=3) == 1
    assert top_overlap(torch.tensor([0.9, 0.0, 0.7, 0.8, 0.1]), exact, k=3) == pytest.approx(2 / 3)
    assert top_overlap(-exact, exact, k=2) == 0


def test_ties_for_the_best_go_to_the_first_row():
    exact = torch.arange(100, 0, -1).float()
    assert top_overlap(torch.ones(100), exact, k=5) == 1
    assert top_overlap(torch.ones(100), -exact, k=5) == 0
