"""The one interface of all selectors: rows in, scores out. The cut comes afterwards and is shared."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

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


@runtime_checkable
class Selector(Protocol):
    """Scores pool rows by their use for the target."""

    def score(self, pool: Sequence[Row], target: Sequence[Row]) -> Scores:
        """Scores of the pool's rows; the same inputs give the same scores."""
