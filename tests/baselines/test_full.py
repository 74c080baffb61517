from baselines.full import FullSelector
from tests.conftest import make_rows

POOL = make_rows(20)
TARGET = make_rows(4, prefix="target", target=True)


def test_every_row_scores_the_same():
    assert FullSelector().score(POOL, TARGET).by_subtask.unique().numel() == 1
