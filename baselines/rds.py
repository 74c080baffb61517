"""Representations of rows: the last layer's hidden states, pooled (RDS and RDS+).

RDS is a baseline of LESS (arXiv:2402.04333): the last token's hidden state. RDS+ (arXiv:2503.01807) takes the
mean over all tokens, weighted by their position, as SGPT does (arXiv:2202.08904). Rows are compared by cosine.

What the papers leave open, and what is chosen here:

- Layer: the last, after the model's final norm, as ``hidden_states[-1]`` of transformers gives it and both
  released programs use it.
- Text: prompt and answer in the run's chat format, cut at its ``max_length``, with every token that the gradients
  read. The last token is therefore what the format ends an answer with: the line break after the end token
  for ``tulu``, what the template writes last for ``model``; in a row that was cut off it is a word's.
- Normalisation: none but the cosine's; the mean direction of all rows is not taken out.
- Weights: positions count from 1 at the row's first token, and those of system and user messages count too.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from lessexp.data.tokenize import Batch
from lessexp.models.hidden_states import last_hidden_states

Pooling = Callable[[Float[Tensor, "batch length width"], Int[Tensor, "batch length"]], Float[Tensor, "batch width"]]
"""One vector for each row, from its hidden states and from the attention mask of a batch padded on the right."""


def last_token(
    hidden_states: Float[Tensor, "batch length width"], attention_mask: Int[Tensor, "batch length"]
) -> Float[Tensor, "batch width"]:
    """The state of each row's last token (RDS)."""
    last = attention_mask.sum(dim=1) - 1
    return hidden_states[torch.arange(len(last), device=last.device), last]


def position_weighted_mean(
    hidden_states: Float[Tensor, "batch length width"], attention_mask: Int[Tensor, "batch length"]
) -> Float[Tensor, "batch width"]:
    """``Σ_i i · h_i / Σ_i i`` over each row's tokens, counted from 1 (RDS+)."""
    position = attention_mask.cumsum(dim=1) * attention_mask
    weight = position / position.sum(dim=1, keepdim=True)
    # What stands at padding may be anything, NaN too, which no weight of zero removes.
    states = torch.where(attention_mask[:, :, None] > 0, hidden_states, 0.0)
    return torch.einsum("bl,blw->bw", weight.to(states.dtype), states)


class PooledHiddenStates:
    """Features of rows: one pooled hidden state each.

    Args:
        model: as it comes, without adapter.
        pooling: one vector for each row.
    """

    def __init__(self, model: PreTrainedModel, *, pooling: Pooling):
        self.model = model
        self.pooling = pooling

    @property
    def proj_dim(self) -> int:
        """Width of a feature: that of the states which the output layer reads."""
        return self.model.get_output_embeddings().weight.shape[1]

    def compute(self, batch: Batch) -> Float[Tensor, "batch proj_dim"]:
        """Features of a batch, pooled in float32; rows do not depend on what else is in the batch."""
        with torch.inference_mode():
            return self.pooling(last_hidden_states(self.model, batch).float(), batch.attention_mask)
