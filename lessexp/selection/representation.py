"""Cosines of stored representations as scores. Whose they are, and how they are pooled, is the config's choice."""

from collections.abc import Sequence
from pathlib import Path

from lessexp.data.arrow_sequence import ids_of
from lessexp.data.rows import Row, subtask_names
from lessexp.gradients.datastore import GradientDatastore
from lessexp.influence.similarity import RowWeights, SubtaskVector, score, subtasks_of
from lessexp.selection.base import Scores


class RepresentationSelector:
    """Scores rows by how alike their representation is to those of the target's rows.

        score(x, s) = mean_{z in s} cos(r(z), r(x))

    This is influence with representations in the place of gradients, at one checkpoint.

    Args:
        pool_store: folder of the pool's representations.
        target_store: folder of the target's representations.
        subtask_vector: see `lessexp.influence.similarity.score`.
        row_weights: see there.
    """

    def __init__(self, *, pool_store: str, target_store: str, subtask_vector: SubtaskVector, row_weights: RowWeights):
        self.pool_store = pool_store
        self.target_store = target_store
        self.subtask_vector = subtask_vector
        self.row_weights = row_weights

    def score(self, pool: Sequence[Row], target: Sequence[Row]) -> Scores:
        """Mean cosine of each pool row with the rows of each subtask.

        Raises:
            ValueError: the stores hold other rows than ``pool`` and ``target``.
            NoDirectionError: the representation of a target row is zero or not finite.
        """
        pool_store = store_of(self.pool_store, pool, "pool")
        target_store = store_of(self.target_store, target, "target")
        [cosines] = score(
            pool_store, target_store, [1.0], subtask_vector=self.subtask_vector, row_weights=self.row_weights
        )
        scored = [place for place, name in enumerate(pool_store.ids) if name not in pool_store.excluded]
        subtasks, column = subtask_names(target), subtasks_of(target_store).index
        return Scores(
            example_ids=[pool_store.ids[place] for place in scored],
            subtasks=subtasks,
            by_subtask=cosines[scored][:, [column(name) for name in subtasks]],
            excluded=dict.fromkeys(pool_store.excluded, "its representation is zero or not finite"),
        )


def store_of(path: str | Path, rows: Sequence[Row], what: str) -> GradientDatastore:
    """Open the store of exactly these rows, in any order.

    Args:
        path: its folder.
        rows: what it is expected to hold.
        what: names the rows in an error.

    Raises:
        ValueError: rows are missing, or others are there.
    """
    store = GradientDatastore.open(path)
    ids = set(ids_of(rows))
    if missing := ids - set(store.ids):
        raise ValueError(f"{path} lacks {len(missing)} rows of the {what}, e.g. '{min(missing)}'")
    if unknown := set(store.ids) - ids:
        raise ValueError(f"{path} holds {len(unknown)} rows that are not in the {what}, e.g. '{min(unknown)}'")
    return store
