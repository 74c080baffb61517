"""Random selection in equal shares from every data set.

The "random balanced" control of the RDS+ paper (arXiv:2503.01807): where a pool is made of a few large and many small
data sets, plain random selection takes nearly all rows from the large ones. Chosen here: a row's source is its
``dataset`` field, and when a data set runs out of rows the others share what it leaves evenly.
"""

from collections.abc import Sequence

import numpy as np
import torch

from lessexp.data.arrow_rows import datasets_of
from lessexp.data.arrow_sequence import ids_of
from lessexp.data.rows import Row, subtask_names
from lessexp.data.seeds import uniform_of
from lessexp.selection.base import Scores


class RandomBalancedSelector:
    """Data sets take turns, each giving one of its rows that are left at random.

    Args:
        seed: draws the order of rows within each data set and that of data sets within each turn.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def score(self, pool: Sequence[Row], target: Sequence[Row]) -> Scores:
        """Scores that fall by one from row to row, the same for every subtask; they know nothing of the target.

        For any number of selected rows, the counts of two data sets that have rows left differ by one at most.
        """
        example_ids = ids_of(pool)
        numbers: dict[str, int] = {}
        dataset = np.array([numbers.setdefault(name, len(numbers)) for name in datasets_of(pool)])
        within = uniform_of(self.seed, "balanced: order within a data set", example_ids).numpy()
        sizes = np.bincount(dataset)
        turn = np.empty(len(pool), dtype=np.int64)
        turn[np.lexsort((within, dataset))] = np.arange(len(pool)) - np.repeat(sizes.cumsum() - sizes, sizes)
        # A second draw: by the first, the largest data set would come first in nearly every turn.
        between = uniform_of(self.seed, "balanced: order within a turn", example_ids).numpy()
        score = np.empty(len(pool), dtype=np.float32)
        score[np.lexsort((between, turn))] = -np.arange(len(pool))
        subtasks = subtask_names(target)
        return Scores(example_ids, subtasks, torch.from_numpy(score)[:, None].expand(-1, len(subtasks)))
