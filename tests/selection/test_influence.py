import json
from dataclasses import replace

import pytest
import torch

from lessexp.gradients.datastore import GradientDatastore
from lessexp.influence.similarity import (
    equal_weights,
    mean_of_cosines,
    mean_of_gradients,
    score,
    weights_by_length,
)
from lessexp.selection.base import Selector
from lessexp.selection.influence import InfluenceSelector
from tests.conftest import make_rows

RATES = [2e-5, 1e-5]


@pytest.fixture
def selector(make_store, warmup_folder, tmp_path):
    """Pool row 2 equals the target's first row, pool row 5 its opposite, and row 7 has no direction."""
    pool = torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(0))
    target = torch.randn(2, 2, 64, generator=torch.Generator().manual_seed(1))
    pool[:, 2], pool[:, 5], pool[:, 7] = 3 * target[:, 0], -target[:, 0], 0
    make_store("pool", pool)
    make_store("target", target, subtasks=["sums", "words"])
    return InfluenceSelector(
        warmup=str(warmup_folder(RATES)),
        pool_store=str(tmp_path / "pool"),
        target_store=str(tmp_path / "target"),
        subtask_vector=mean_of_cosines,
        row_weights=equal_weights,
    )


def pool_rows():
    return [replace(row, example_id=f"pool-{i}") for i, row in enumerate(make_rows(9))]


def target_rows():
    return [replace(row, example_id=f"target-{i}") for i, row in enumerate(make_rows(2, target=True))]


def test_it_is_a_selector(selector):
    assert isinstance(selector, Selector)


def test_a_row_that_moves_like_the_target_ranks_first_and_its_opposite_last(selector):
    scores = selector.score(pool_rows(), target_rows())
    ranked = [scores.example_ids[i] for i in scores.by_subtask[:, 0].argsort(descending=True)]
    assert (ranked[0], ranked[-1]) == ("pool-2", "pool-5")
    assert scores.by_subtask[scores.example_ids.index("pool-2"), 0].item() == pytest.approx(1, abs=1e-5)


def test_rows_without_a_direction_are_left_out_and_listed(selector):
    scores = selector.score(pool_rows(), target_rows())
    assert "pool-7" not in scores.example_ids
    assert list(scores.excluded) == ["pool-7"]
    assert scores.by_subtask.isfinite().all()


def test_checkpoint_scores_are_kept_and_weighted_by_the_mean_rates(selector):
    scores = selector.score(pool_rows(), target_rows())
    torch.testing.assert_close(scores.by_checkpoint.sum(0), scores.by_subtask)
    same = scores.by_checkpoint[:, scores.example_ids.index("pool-2"), 0]
    torch.testing.assert_close(same, torch.tensor([2 / 3, 1 / 3]))


def test_checkpoints_whose_rates_are_all_zero_weigh_alike(selector, tmp_path):
    for epoch in (1, 2):
        file = tmp_path / "warmup" / f"epoch={epoch}" / "trainer_state.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"mean_learning_rate": 0.0}))
    scores = selector.score(pool_rows(), target_rows())
    same = scores.by_checkpoint[:, scores.example_ids.index("pool-2"), 0]
    torch.testing.assert_close(same, torch.tensor([1 / 2, 1 / 2]))


def test_columns_are_in_the_order_of_the_targets_rows_not_of_the_stores(selector):
    first, second = (selector.score(pool_rows(), target) for target in (target_rows(), target_rows()[::-1]))
    assert second.subtasks == first.subtasks[::-1] == ["words", "sums"]
    assert torch.equal(second.by_subtask, first.by_subtask.flip(1))
    assert torch.equal(second.by_checkpoint, first.by_checkpoint.flip(2))


@pytest.mark.parametrize("changed", [{"subtask_vector": mean_of_gradients}, {"row_weights": weights_by_length}])
def test_vectors_and_weights_are_those_that_are_asked_for(selector, tmp_path, changed):
    for name, value in changed.items():
        setattr(selector, name, value)
    stores = [GradientDatastore.open(tmp_path / side) for side in ("pool", "target")]
    expected, default = (score(*stores, RATES, **given)[:, [*range(7), 8]] for given in (changed, {}))
    found = selector.score(pool_rows(), target_rows()).by_checkpoint
    assert torch.equal(found, expected) and not torch.allclose(found, default)


def test_a_store_of_other_rows_is_refused_by_id(selector):
    with pytest.raises(ValueError, match=r"1 rows that are not in the pool, e\.g\. 'pool-8'"):
        selector.score(pool_rows()[:-1], target_rows())
