from collections import Counter

import pytest
import torch

from baselines.random_balanced import RandomBalancedSelector
from lessexp.data.rows import Row
from lessexp.selection.top_k import ranking
from tests.conftest import make_rows

SIZES = {"large": 40, "small": 3, "middling": 12, "single": 1}
POOL = [
    Row(dataset, f"{dataset}-{index}", (("user", "?"), ("assistant", "!")))
    for dataset, size in SIZES.items()
    for index in range(size)
]
DATASET = {row.example_id: row.dataset for row in POOL}
TARGET = make_rows(4, prefix="target", target=True)


def picks(seed):
    scores = RandomBalancedSelector(seed=seed).score(POOL, TARGET)
    return ranking(scores.by_subtask[:, 0], scores.example_ids)


@pytest.mark.parametrize("seed", range(5))
def test_data_sets_with_rows_left_have_given_the_same_number_give_or_take_one(seed):
    order = picks(seed)
    assert sorted(order) == sorted(DATASET)
    for k in range(1, len(POOL) + 1):
        counts = Counter(DATASET[name] for name in order[:k])
        most = max(counts.values())
        for dataset, size in SIZES.items():
            assert most - counts[dataset] <= 1 or counts[dataset] == size, (k, dataset)


def test_scores_are_the_same_for_every_subtask_and_know_nothing_of_the_target():
    scores = RandomBalancedSelector(seed=0).score(POOL, TARGET).by_subtask
    assert scores.shape == (len(POOL), 2) and torch.equal(scores[:, 0], scores[:, 1])
    assert torch.equal(RandomBalancedSelector(seed=0).score(POOL, TARGET[:1]).by_subtask[:, 0], scores[:, 0])


def test_no_two_rows_tie():
    assert RandomBalancedSelector(seed=0).score(POOL, TARGET).by_subtask[:, 0].unique().numel() == len(POOL)


def test_rows_of_a_data_set_and_places_in_a_turn_are_drawn_fairly():
    n_seeds = 400
    chosen, first = Counter(), Counter()
    for seed in range(n_seeds):
        order = picks(seed)
        chosen.update(name for name in order[:8] if DATASET[name] == "middling")
        first[DATASET[order[0]]] += 1
    n_chosen = chosen.total()
    for counts, n_draws, share in ((chosen, n_chosen, 1 / 12), (first, n_seeds, 1 / 4)):
        # Four standard deviations of a binomial count.
        limit = 4 * (n_draws * share * (1 - share)) ** 0.5
        assert len(counts) == round(1 / share)
        assert all(abs(count - n_draws * share) < limit for count in counts.values()), counts
