"""Selection by the perplexity of a row's answer: a cheap control that never looks at the target.

Pretraining data are pruned by perplexity, keeping its lowest, middle or highest range (arXiv:2309.04564), and which
range is best depends on the data (arXiv:2405.20541). For instruction tuning the question is open, so the sign is
a setting. Chosen here: the selection model without adapter judges, the mean is over answer tokens only, what ends
the answer included, and rows are ranked by that mean loss, the logarithm of the perplexity.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from lessexp.data.rows import Row, subtask_names
from lessexp.data.tokenize import Batch
from lessexp.errors import UserError
from lessexp.models.causal_lm import per_example_loss
from lessexp.selection.base import Scores
from lessexp.selection.representation import store_of


class PerplexitySignError(UserError, ValueError):
    """A sign that is neither 1 nor -1."""


class AnswerLoss:
    """Features of rows: one number each, the mean loss of the answer's tokens [nats per token].

    Args:
        model: as it comes, without adapter.
    """

    proj_dim = 1

    def __init__(self, model: PreTrainedModel):
        self.model = model

    def compute(self, batch: Batch) -> Float[Tensor, "batch proj_dim"]:
        """Features of a batch, in float32; rows do not depend on what else is in the batch."""
        with torch.inference_mode():
            return per_example_loss(self.model, batch)[:, None]


class PerplexitySelector:
    """Stored losses as scores, the same for every subtask.

    Args:
        pool_store: folder of the pool's losses, in a floating-point type.
        sign: -1 takes rows of the lowest perplexity first, 1 those of the highest.

    Raises:
        PerplexitySignError: another sign.
    """

    def __init__(self, *, pool_store: str, sign: int):
        if sign not in (-1, 1):
            raise PerplexitySignError(
                f"selector.scorer.sign must be -1 (lowest perplexity first) or 1 (highest), got {sign}"
            )
        self.pool_store = pool_store
        self.sign = sign

    def score(self, pool: Sequence[Row], target: Sequence[Row]) -> Scores:
        """``sign`` times the loss of each pool row; rows whose loss is not finite are excluded.

        Raises:
            ValueError: the store holds other rows than ``pool``.
        """
        store = store_of(self.pool_store, pool, "pool")
        encoded = store.encoded(store.checkpoints[0], range(len(store.ids)))
        # Read as stored: a gradient of zero has no direction, but a loss of zero is a number.
        loss = encoded.rows[:, 0].float() * encoded.scale
        scored = loss.isfinite()
        subtasks = subtask_names(target)
        return Scores(
            example_ids=[name for name, has_score in zip(store.ids, scored.tolist(), strict=True) if has_score],
            subtasks=subtasks,
            by_subtask=self.sign * loss[scored, None].expand(-1, len(subtasks)),
            excluded={
                name: "its loss is not finite"
                for name, has_score in zip(store.ids, scored.tolist(), strict=True)
                if not has_score
            },
        )
