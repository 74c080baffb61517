"""Selection by the length of a row's answer: a control that needs neither a model nor the target.

Training on the longest answers is hard to beat where a judge compares replies ("Long Is More for Alignment",
arXiv:2402.04833), so a method whose picks are merely long should be seen beside it. Chosen here: length is counted in
characters, which needs no tokenizer; all assistant messages of a conversation count, prompts do not; rows of the same
length stay in pool order.
"""

from collections.abc import Sequence

import torch

from lessexp.data.arrow_sequence import ids_of
from lessexp.data.rows import Row, subtask_names
from lessexp.errors import UserError
from lessexp.selection.base import Scores


class LengthSignError(UserError, ValueError):
    """A sign that is neither 1 nor -1."""


class LengthSelector:
    """Answer lengths as scores, the same for every subtask.

    Args:
        sign: 1 takes the longest answers first, -1 the shortest.

    Raises:
        LengthSignError: another sign.
    """

    def __init__(self, *, sign: int):
        if sign not in (-1, 1):
            raise LengthSignError(f"selector.scorer.sign must be 1 (longest first) or -1 (shortest first), got {sign}")
        self.sign = sign

    def score(self, pool: Sequence[Row], target: Sequence[Row]) -> Scores:
        """``sign`` times the characters of each row's answers."""
        lengths = [row.answer_length for row in pool]
        subtasks = subtask_names(target)
        scores = self.sign * torch.tensor(lengths, dtype=torch.float32)
        return Scores(ids_of(pool), subtasks, scores[:, None].expand(-1, len(subtasks)))
