"""Random selection: the control every method must beat."""

from collections.abc import Sequence

import torch

from lessexp.data.rows import Row, subtask_names
from lessexp.data.seeds import generator_for
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
        subtasks = subtask_names(target)
        noise = torch.rand(len(pool), generator=generator_for(self.seed, "random selector"))
        return Scores([row.example_id for row in pool], subtasks, noise[:, None].expand(-1, len(subtasks)))
