"""LESS as a selector: the influence of stored gradients. Whose gradients they are is the config's choice."""

from collections.abc import Sequence
from pathlib import Path

from lessexp.data.rows import Row, subtask_names
from lessexp.influence.similarity import RowWeights, SubtaskVector, score, subtasks_of
from lessexp.selection.base import Scores
from lessexp.selection.representation import store_of
from lessexp.training.checkpoint import epoch_folder, read_trainer_state


class InfluenceSelector:
    """Scores rows by influence (LESS, arXiv:2402.04333).

    Args:
        warmup: folder of the warm-up checkpoints; the mean learning rates of those in the stores are the weights,
            which are equal if all of these rates are 0, as a single checkpoint's may be.
        pool_store: folder of the pool's datastore.
        target_store: folder of the target's datastore.
        subtask_vector: see `lessexp.influence.similarity.score`.
        row_weights: see there.
    """

    def __init__(
        self, *, warmup: str, pool_store: str, target_store: str, subtask_vector: SubtaskVector, row_weights: RowWeights
    ):
        self.warmup = Path(warmup)
        self.pool_store = Path(pool_store)
        self.target_store = Path(target_store)
        self.subtask_vector = subtask_vector
        self.row_weights = row_weights

    def score(self, pool: Sequence[Row], target: Sequence[Row]) -> Scores:
        """Influence scores of the pool's rows.

        Raises:
            ValueError: the stores hold other rows than ``pool`` and ``target``, or do not match.
        """
        pool_store = store_of(self.pool_store, pool, "pool")
        target_store = store_of(self.target_store, target, "target")
        folders = [epoch_folder(self.warmup, epoch) for epoch in pool_store.checkpoints]
        rates = [read_trainer_state(folder).mean_learning_rate for folder in folders]
        weights = rates if any(rates) else [1.0] * len(rates)
        influence = score(
            pool_store, target_store, weights, subtask_vector=self.subtask_vector, row_weights=self.row_weights
        )
        scored = [row for row, name in enumerate(pool_store.ids) if name not in pool_store.excluded]
        subtasks, column = subtask_names(target), subtasks_of(target_store).index
        influence = influence[:, scored][:, :, [column(name) for name in subtasks]]
        return Scores(
            example_ids=[pool_store.ids[row] for row in scored],
            subtasks=subtasks,
            by_subtask=influence.sum(dim=0),
            by_checkpoint=influence,
            excluded=pool_store.excluded,
        )
