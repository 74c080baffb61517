"""The contract that every selector keeps, whatever it computes."""

import dataclasses

import pytest
import torch

from baselines.full import FullSelector
from baselines.random import RandomSelector
from lessexp.data.rows import Row
from lessexp.selection.base import Scores, Selector
from tests.conftest import make_rows

SELECTORS = {"random": RandomSelector(seed=0), "full": FullSelector()}
POOL = make_rows(12)
TARGET = make_rows(5, prefix="target", target=True)


def row(name, text, subtask=None):
    messages = (("user", text), ("assistant", text))
    return Row("odd", name, messages, task=None if subtask is None else "toy", subtask=subtask)


UNICODE = [row("Zürich", "Grüße, 世界 🎉"), row("عربي", "مرحبا بالعالم"), row("combining", "e\u0301\u200b\u2028")]
LONG = [row("long", "word " * 2000), row("unbroken", "x" * 10_000)]


@pytest.fixture(params=SELECTORS)
def selector(request):
    return SELECTORS[request.param]


def test_selector_follows_the_protocol(selector):
    assert isinstance(selector, Selector)


@pytest.mark.parametrize(
    ("pool", "target"),
    [
        (POOL, TARGET),
        (POOL[:1], TARGET),
        (POOL, TARGET[:1]),
        (POOL + UNICODE, [*TARGET, row("目標", "世界", subtask="Übung")]),
        (POOL + LONG, [*TARGET, row("long target", "word " * 2000, subtask="long")]),
    ],
    ids=["usual", "pool of one row", "target of one row", "unicode", "10,000 characters"],
)
def test_every_pool_row_gets_one_finite_score_a_subtask_or_a_reason(selector, pool, target):
    scores = selector.score(pool, target)
    assert sorted([*scores.example_ids, *scores.excluded]) == sorted(row.example_id for row in pool)
    assert scores.by_subtask.shape == (len(scores.example_ids), len({row.subtask for row in target}))
    assert scores.by_subtask.isfinite().all()


def test_the_same_rows_get_the_same_scores_whatever_the_global_generator_is_at(selector):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = selector.score(POOL, TARGET)
    assert torch.equal(torch.get_rng_state(), before), "a selector must not draw from the global generator"
    torch.manual_seed(2)
    second = selector.score(POOL, TARGET)
    assert first.example_ids == second.example_ids
    assert torch.equal(first.by_subtask, second.by_subtask)


def test_subtasks_are_columns_in_order_of_first_appearance(selector):
    target = [row(f"t{index}", "word", subtask=name) for index, name in enumerate(["zeta", "alpha", "zeta", "mid"])]
    assert selector.score(POOL, target).subtasks == ["zeta", "alpha", "mid"]


def test_scoring_leaves_the_rows_as_they_were(selector):
    pool, target = list(POOL), list(TARGET)
    selector.score(pool, target)
    assert pool == POOL and target == TARGET


def test_scores_follow_the_order_of_other_ids_that_may_name_more():
    by_checkpoint = torch.arange(12.0).view(2, 3, 2)
    scores = Scores(["a", "b", "c"], ["s", "t"], by_checkpoint.sum(0), by_checkpoint, {"d": "why"})
    moved = scores.in_order_of(["c", "d", "a", "b"])
    assert (moved.example_ids, moved.subtasks, moved.excluded) == (["c", "a", "b"], ["s", "t"], {"d": "why"})
    assert torch.equal(moved.by_subtask, scores.by_subtask[[2, 0, 1]])
    assert torch.equal(moved.by_checkpoint, by_checkpoint[:, [2, 0, 1]])


def test_scores_are_a_plain_frozen_value_that_shares_no_defaults():
    first, second = (Scores(["a"], ["s"], torch.zeros(1, 1)) for _ in range(2))
    assert first.by_checkpoint is None and first.excluded == {}
    assert first.excluded is not second.excluded
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.example_ids = ["b"]
