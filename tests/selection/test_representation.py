from dataclasses import replace

import pytest
import torch

from lessexp.influence.similarity import equal_weights, mean_of_cosines, mean_of_gradients, weights_by_length
from lessexp.selection.base import Selector
from lessexp.selection.representation import RepresentationSelector, store_of
from tests.conftest import make_rows

POOL = torch.randn(1, 9, 64, generator=torch.Generator().manual_seed(0))
TARGET = torch.randn(1, 4, 64, generator=torch.Generator().manual_seed(1))
POOL[0, 2], POOL[0, 5], POOL[0, 7], POOL[0, 8] = 3 * TARGET[0, 1], -TARGET[0, 1], 0, torch.inf
SUBTASKS = ["sums", "words", "sums", "sums"]


@pytest.fixture
def selector(make_store, tmp_path):
    """Pool row 2 equals the target's only row of words, row 5 is its opposite, rows 7 and 8 have no direction."""
    make_store("pool", POOL)
    make_store("target", TARGET, subtasks=SUBTASKS)
    return RepresentationSelector(
        pool_store=str(tmp_path / "pool"),
        target_store=str(tmp_path / "target"),
        subtask_vector=mean_of_cosines,
        row_weights=equal_weights,
    )


def pool_rows():
    return [replace(row, example_id=f"pool-{i}") for i, row in enumerate(make_rows(9))]


def target_rows():
    return [replace(row, example_id=f"target-{i}") for i, row in enumerate(make_rows(4, target=True))]


def test_it_is_a_selector(selector):
    assert isinstance(selector, Selector)


def test_scores_are_the_means_of_cosines_one_pair_at_a_time(selector):
    scores = selector.score(pool_rows(), target_rows())
    assert scores.example_ids == [f"pool-{i}" for i in range(7)] and scores.subtasks == ["sums", "words"]
    for row in range(7):
        for column, subtask in enumerate(scores.subtasks):
            wanted = [z for z, name in zip(TARGET[0], SUBTASKS, strict=True) if name == subtask]
            cosines = [torch.dot(POOL[0, row], z) / (POOL[0, row].norm() * z.norm()) for z in wanted]
            found = scores.by_subtask[row, column].item()
            assert found == pytest.approx(sum(cosines).item() / len(cosines), abs=1e-6)  # float32


def test_a_row_like_the_targets_ranks_first_and_its_opposite_last(selector):
    scores = selector.score(pool_rows(), target_rows())
    ranked = [scores.example_ids[i] for i in scores.by_subtask[:, 1].argsort(descending=True)]
    assert (ranked[0], ranked[-1]) == ("pool-2", "pool-5")


def test_columns_are_in_the_order_of_the_targets_rows_not_of_the_stores(selector):
    first = selector.score(pool_rows(), target_rows())
    second = selector.score(pool_rows(), target_rows()[1::-1] + target_rows()[2:])
    assert second.subtasks == first.subtasks[::-1] == ["words", "sums"]
    assert torch.equal(second.by_subtask, first.by_subtask.flip(1))


def test_vectors_and_weights_are_those_that_are_asked_for(selector):
    selector.subtask_vector, selector.row_weights = mean_of_gradients, weights_by_length
    found = selector.score(pool_rows(), target_rows()).by_subtask
    of_sums = [sum(torch.dot(POOL[0, row], TARGET[0, z]) for z in (0, 2, 3)) / 3 for row in range(7)]
    torch.testing.assert_close(found[:, 0], torch.stack(of_sums), rtol=1e-4, atol=1e-4)  # float32


def test_rows_without_a_direction_are_left_out_and_listed(selector):
    scores = selector.score(pool_rows(), target_rows())
    reason = "its representation is zero or not finite"
    assert scores.excluded == {"pool-7": reason, "pool-8": reason}


def test_a_store_of_other_rows_is_refused_by_id(selector, tmp_path):
    with pytest.raises(ValueError, match=r"1 rows that are not in the pool, e\.g\. 'pool-8'"):
        selector.score(pool_rows()[:-1], target_rows())
    with pytest.raises(ValueError, match=r"lacks 1 rows of the target, e\.g\. 'row-000'"):
        selector.score(pool_rows(), [*target_rows(), make_rows(1, target=True)[0]])
    assert store_of(tmp_path / "pool", pool_rows()[::-1], "pool").ids[0] == "pool-0"
