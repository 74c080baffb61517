import pytest
import torch

from lessexp.influence.aggregate import balanced, max_of_subtask_means, mean, round_robin

BY_SUBTASK = torch.tensor([[0.1, 0.5], [0.4, 0.3], [-0.2, -0.6]])


def test_max_takes_the_best_subtask_of_each_row():
    assert torch.equal(max_of_subtask_means(BY_SUBTASK), torch.tensor([0.5, 0.4, -0.2]))


def test_mean_counts_all_subtasks_alike():
    torch.testing.assert_close(mean(BY_SUBTASK), torch.tensor([0.3, 0.35, -0.4]))


def picks(scores):
    return scores.argsort(descending=True).tolist()


def slow_round_robin(by_subtask):
    """Who picks, and what is left, looked at afresh every time."""
    left, order = list(range(len(by_subtask))), []
    while left:
        subtask = len(order) % by_subtask.shape[1]
        best = max(left, key=lambda row: (by_subtask[row, subtask].item(), -row))
        order.append(best)
        left.remove(best)
    return order


def slow_balanced(by_subtask):
    values = by_subtask.double()
    values = (values - values.mean(0)) / values.std(0, correction=0)
    left, order = list(range(len(values))), []
    while left:
        gained = [sum(values[row, s].item() for row in order) for s in range(values.shape[1])]
        subtask = min(range(values.shape[1]), key=lambda s: (round(gained[s], 9), s))
        best = max(left, key=lambda row: (values[row, subtask].item(), -row))
        order.append(best)
        left.remove(best)
    return order


@pytest.mark.parametrize(("aggregate", "slow"), [(round_robin, slow_round_robin), (balanced, slow_balanced)])
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (30, 1), (30, 4), (5, 9)])
def test_picks_equal_those_of_the_slow_way(aggregate, slow, shape):
    by_subtask = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if len(by_subtask) > 1:
        assert picks(aggregate(by_subtask)) == slow(by_subtask)
    else:
        assert picks(aggregate(by_subtask)) == [0]


def test_ties_go_to_the_row_that_comes_first():
    assert picks(round_robin(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]))) == [0, 1, 2]


def test_a_loud_subtask_does_not_take_all_picks_of_balance_or_of_turns():
    quiet = torch.randn(100, 1, generator=torch.Generator().manual_seed(1))
    by_subtask = torch.cat([quiet, 50 + 10 * quiet.flip(0)], dim=1)
    best_of = [set(by_subtask[:, s].argsort(descending=True)[:10].tolist()) for s in (0, 1)]
    assert set(picks(max_of_subtask_means(by_subtask))[:10]) == best_of[1]
    for aggregate in (round_robin, balanced):
        taken = set(picks(aggregate(by_subtask))[:10])
        assert len(taken & best_of[0]) >= 4 and len(taken & best_of[1]) >= 4


def test_a_subtask_that_scores_all_rows_alike_does_no_harm():
    by_subtask = torch.stack([torch.arange(6.0), torch.full((6,), 3.0)], dim=1)
    assert balanced(by_subtask).isfinite().all()
