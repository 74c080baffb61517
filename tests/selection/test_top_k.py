import random
import re

import pytest
import torch

from lessexp.errors import UserError
from lessexp.selection.top_k import BudgetError, budget, ranking, rows_won


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
