"""The one interface of all selectors: rows in, scores out. The cut comes afterwards and is shared."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from lessexp.data.rows import Row


@dataclass(frozen=True)
class Scores:
    """How useful each pool row is for each subtask; higher is better.

    Attributes:
        example_ids: the scored rows; a row that cannot be scored is absent.
        subtasks: names of the columns.
        by_subtask: ``[n_scored, n_subtask]``.
        by_checkpoint: ``[n_ckpt, n_scored, n_subtask]``, summing to ``by_subtask``, where a method has checkpoints.
        excluded: reason by example id, for rows that could not be scored.
    """

    example_ids: list[str]
    subtasks: list[str]
    by_subtask: Float[Tensor, "n_scored n_subtask"]
    by_checkpoint: Float[Tensor, "n_ckpt n_scored n_subtask"] | None = None
    excluded: dict[str, str] = field(default_factory=dict)

    def in_order_of(self, example_ids: Sequence[str]) -> "Scores":
        """The same scores with the rows in the order in which ``example_ids`` (which may name more) has them."""
        place = {example_id: index for index, example_id in enumerate(self.example_ids)}
        order = torch.tensor([place[name] for name in example_ids if name in place], dtype=torch.long)
        return replace(
            self,
            example_ids=[self.example_ids[index] for index in order.tolist()],
            by_subtask=self.by_subtask[order],
            by_checkpoint=None if self.by_checkpoint is None else self.by_checkpoint[:, order],
        )


@runtime_checkable
class Selector(Protocol):
    """Scores pool rows by their use for the target."""

    def score(self, pool: Sequence[Row], target: Sequence[Row]) -> Scores:
        """Scores of the pool's rows; the same inputs give the same scores."""
