"""The whole pool: what selection is measured against."""

from collections.abc import Sequence

import torch

from lessexp.data.arrow_sequence import ids_of
from lessexp.data.rows import Row, subtask_names
from lessexp.selection.base import Scores


class FullSelector:
    """Every row scores the same, so that a fraction below 1 is a draw by the seed."""

    def score(self, pool: Sequence[Row], target: Sequence[Row]) -> Scores:
        """Zero for every row and subtask."""
        subtasks = subtask_names(target)
        return Scores(ids_of(pool), subtasks, torch.zeros(len(pool), len(subtasks)))
