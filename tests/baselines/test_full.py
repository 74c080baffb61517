import pytest

from baselines.full import FullSelector
from lessexp.selection.top_k import budget, ranking
from tests.conftest import make_rows

POOL = make_rows(20)
TARGET = make_rows(4, prefix="target", target=True)


def test_every_row_scores_the_same():
    assert FullSelector().score(POOL, TARGET).by_subtask.unique().numel() == 1


@pytest.mark.parametrize("fraction", [1.0, 0.3])
def test_any_fraction_takes_the_pool_in_its_own_order(fraction):
    scores = FullSelector().score(POOL, TARGET)
    k = budget(fraction, len(POOL))
    names = [row.example_id for row in POOL]
    assert ranking(scores.by_subtask[:, 0], scores.example_ids)[:k] == names[:k]
