"""Random selection: the control every method must beat."""

from collections.abc import Sequence

import torch

from lessexp.data.rows import Row
from lessexp.selection.base import Scores


class RandomSelector:
    """Uniform noise as scores, so that the top k are a random subset.

    Args:
        seed: of the noise.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def score(self, pool: Sequence[Row], target: Sequence[Row]) -> Scores:
        """One random number a row, the same for every subtask; drawn in pool order."""
        subtasks = list(dict.fromkeys(row.subtask or row.dataset for row in target))
        noise = torch.rand(len(pool), generator=torch.Generator().manual_seed(self.seed))
        return Scores([row.example_id for row in pool], subtasks, noise[:, None].expand(-1, len(subtasks)))
