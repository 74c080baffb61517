import random
import re

import pytest
import torch

from lessexp.errors import UserError
from lessexp.influence.aggregate import balanced, max_of_subtask_means, mean, round_robin
from lessexp.selection.top_k import (
    BudgetError,
    aggregated_and_ranked,
    budget,
    ranking,
    rows_won,
    tied_with_others,
)


@pytest.mark.parametrize(
    ("fraction", "n_pool", "n_selected"),
    [
        (0.05, 270_679, 13_533),
        (0.29, 100, 29),  # 28.999999999999996 in floating point
        (0.07, 100, 7),  # 7.000000000000001
        (0.5, 3, 1),
        (0.999, 1000, 999),
        (1.0, 17, 17),
        (1.0, 1, 1),
        (0.05, 19, 1),
        (1e-9, 3, 1),
    ],
)
def test_budget_is_the_fraction_of_the_pool_rounded_down_but_at_least_one_row(fraction, n_pool, n_selected):
    assert budget(fraction, n_pool) == n_selected


def test_budget_of_whole_percentages_is_exact_integer_arithmetic():
    for n_pool in (100, 257, 1000, 99_999):
        assert [budget(percent / 100, n_pool) for percent in range(1, 101)] == [
            percent * n_pool // 100 for percent in range(1, 101)
        ]


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.0001, 5.0, float("nan")])
def test_a_fraction_outside_its_range_is_refused_with_its_value(fraction):
    with pytest.raises(BudgetError, match=re.escape(str(fraction))):
        budget(fraction, 100)
    assert issubclass(BudgetError, UserError)


def test_an_empty_pool_is_refused():
    with pytest.raises(BudgetError, match="the pool holds no row"):
        budget(0.5, 0)


def test_rows_come_best_first_like_pythons_sort():
    generator = random.Random(0)
    names = [f"row-{index}" for index in range(200)]
    values = {name: generator.choice([generator.gauss(0, 1), 0.5, -0.0, 0.0]) for name in names}
    # float64, so that torch compares the same numbers as Python, whose sort leaves equals in their order.
    found = ranking(torch.tensor([values[name] for name in names], dtype=torch.float64), names)
    assert found == sorted(names, key=lambda name: -values[name])


def test_infinite_scores_rank_at_the_ends():
    assert ranking(torch.tensor([0.0, -torch.inf, torch.inf]), list("abc")) == ["c", "a", "b"]


def test_a_score_that_is_not_a_number_is_refused_with_its_id():
    with pytest.raises(ValueError, match="'b'"):
        ranking(torch.tensor([1.0, torch.nan, 2.0]), ["a", "b", "c"])


def test_a_row_is_won_by_the_subtask_it_scores_highest_for():
    by_subtask = torch.tensor([[0.1, 0.9, 0.0], [0.2, 0.3, 0.0], [0.5, 0.4, 0.6], [0.0, 1.0, 0.9]])
    assert rows_won(by_subtask).tolist() == [0, 3, 1]


def test_a_row_that_scores_alike_for_several_subtasks_is_won_by_none():
    by_subtask = torch.tensor([[0.5, 0.5, 0.5], [0.9, 0.1, 0.9], [0.1, 0.2, 0.3]])
    assert rows_won(by_subtask).tolist() == [0, 0, 1]


AGGREGATES = [max_of_subtask_means, mean, round_robin, balanced]


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_ties_are_broken_by_the_seed_whatever_the_order_of_the_rows(aggregate):
    names = [f"row-{index}" for index in range(40)]
    by_subtask = torch.tensor([[float(index % 2), 1.0] for index in range(40)])

    def best(order, seed=0):
        found = aggregated_and_ranked(by_subtask[order], [names[index] for index in order], aggregate, seed=seed)
        return found[1][:10]

    orders = [list(range(40)), list(range(40))[::-1], torch.randperm(40).tolist()]
    assert len({tuple(best(order)) for order in orders}) == 1
    assert set(best(orders[0], seed=1)) != set(best(orders[0], seed=0))


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_scores_and_places_of_rows_without_ties_are_those_of_the_aggregate(aggregate):
    by_subtask = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    names = [f"row-{index}" for index in range(50)]
    score, best_first = aggregated_and_ranked(by_subtask, names, aggregate, seed=0)
    assert torch.equal(score, aggregate(by_subtask))
    assert best_first == ranking(aggregate(by_subtask), names)


def test_selected_rows_are_tied_if_a_row_left_out_scores_the_same_and_is_no_copy():
    scores = torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 3.0], [0.0, 0.0], [0.0, 0.0], [5.0, 5.0], [5.0, 5.0]])
    is_selected = torch.tensor([True, False, True, True, False, True, True])
    is_copy = torch.tensor([False, False, False, False, True, False, False])
    assert tied_with_others(scores, is_selected, is_copy).tolist() == [True, *[False] * 6]
