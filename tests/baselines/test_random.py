import torch

from baselines.random import RandomSelector
from lessexp.selection.top_k import ranking
from tests.conftest import make_rows

POOL = make_rows(20)
TARGET = make_rows(4, prefix="target", target=True)


def test_another_seed_gives_other_scores():
    assert not torch.equal(
        RandomSelector(seed=0).score(POOL, TARGET).by_subtask, RandomSelector(seed=1).score(POOL, TARGET).by_subtask
    )


def test_scores_are_the_same_for_every_subtask_and_know_nothing_of_the_target():
    scores = RandomSelector(seed=0).score(POOL, TARGET).by_subtask
    assert scores.shape == (20, 2) and torch.equal(scores[:, 0], scores[:, 1])
    assert torch.equal(RandomSelector(seed=0).score(POOL, TARGET[:1]).by_subtask[:, 0], scores[:, 0])


def test_every_row_is_selected_equally_often_over_seeds():
    n_seeds, k = 400, 5
    pool_position = {row.example_id: index for index, row in enumerate(POOL)}
    counts = torch.zeros(len(POOL))
    for seed in range(n_seeds):
        scores = RandomSelector(seed=seed).score(POOL, TARGET)
        for name in ranking(scores.by_subtask[:, 0], scores.example_ids)[:k]:
            counts[pool_position[name]] += 1
    share = k / len(POOL)
    deviation = (n_seeds * share * (1 - share)) ** 0.5
    # Four standard deviations of a binomial count: a fair draw stays within them for all 20 rows.
    assert (counts - n_seeds * share).abs().max() < 4 * deviation
