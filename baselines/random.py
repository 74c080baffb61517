"""Random selection: the control every method must beat."""

from collections.abc import Sequence

from lessexp.data.arrow_sequence import ids_of
from lessexp.data.rows import Row, subtask_names
from lessexp.data.seeds import uniform_of
from lessexp.selection.base import Scores


class RandomSelector:
    """Uniform noise as scores, so that the top k are a random subset.

    Args:
        seed: of the noise.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def score(self, pool: Sequence[Row], target: Sequence[Row]) -> Scores:
        """One random number a row, the same for every subtask; it hangs on the seed and the row's id alone."""
        subtasks = subtask_names(target)
        example_ids = ids_of(pool)
        noise = uniform_of(self.seed, "random selector", example_ids).float()
        return Scores(example_ids, subtasks, noise[:, None].expand(-1, len(subtasks)))
