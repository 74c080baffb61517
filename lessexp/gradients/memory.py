"""How many tokens a batch may hold: from free memory, and from running out of it."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import psutil
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lessexp.data.tokenize import Batch, TokenizedRow, collate, lengths_of, split_by_tokens
from lessexp.errors import UserError
from lessexp.gradients.per_example import GradientFeatures
from lessexp.models.causal_lm import per_example_loss
from lessexp.models.saved_tensors import noting_saved_storages

_SHARE_OF_FREE_MEMORY = 0.5  # the rest is for what is not counted: work space, fragmentation, other processes
_MOST_TOKENS = 16384  # beyond this no device is busier
COPIES_OF_LOGITS = 4  # as computed, in float32, their softmax and its gradient
_COPIES_OF_BLOCK = 3  # gradients of one parameter, their direction, and what projecting needs


class OutOfMemoryError(UserError, MemoryError):
    """A single example that does not fit."""


@runtime_checkable
class Features(Protocol):
    """What a store holds of each row."""

    def compute(self, batch: Batch) -> Float[Tensor, "batch proj_dim"]:
        """Features of a batch, in float32; rows do not depend on what else is in the batch."""


def free_bytes(device: torch.device | str) -> int:
    """Memory that a batch on ``device`` could take now."""
    if torch.device(device).type == "cuda":
        unused_by_torch = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused_by_torch
    return psutil.virtual_memory().available


def saved_bytes(model: nn.Module, row: TokenizedRow, *, device: torch.device | str) -> int:
    """What autograd keeps of one row between forward and backward, parameters not counted."""
    with noting_saved_storages(model) as saved:
        per_example_loss(model, collate([row], pad_token_id=0).to(device))
    return sum(storage.nbytes() for storage in saved.values())


def tokens_that_fit(features: GradientFeatures, rows: Sequence[TokenizedRow], *, device: torch.device | str) -> int:
    """A token budget for batches of these rows, by what the longest keeps for its backward pass.

    Every token is taken to be a label, and every batch to be full of the shortest rows.
    """
    model = features.model
    lengths = lengths_of(rows)
    longest, shortest = rows[int(lengths.argmax())], int(lengths.min())
    head = model.get_output_embeddings()
    of_a_token = saved_bytes(model, longest, device=device) / len(longest.input_ids)
    of_a_token += COPIES_OF_LOGITS * 4 * head.weight.shape[0]
    largest_block = max(layer.weight.numel() for layer in features.layers.values())
    of_a_row = 4 * (_COPIES_OF_BLOCK * largest_block + features.projector.proj_dim)
    fitting = _SHARE_OF_FREE_MEMORY * free_bytes(device) / (of_a_token + of_a_row / shortest)
    return max(1, min(int(fitting), _MOST_TOKENS))


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an allocation failed, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


class Batches:
    """Rows to features, batch by batch; where memory runs out the batch is halved, and so is the budget.

    Args:
        tokens_per_batch: padded tokens of one batch; a longer row stands alone.
        pad_token_id: fills the ends of short rows.
        device: where the model is.
        announce: gets one sentence when the budget shrinks.
    """

    def __init__(
        self, tokens_per_batch: int, *, pad_token_id: int, device: torch.device | str, announce: Callable[[str], None]
    ):
        self.tokens_per_batch = tokens_per_batch
        self.pad_token_id = pad_token_id
        self.device = device
        self.announce = announce

    def compute(self, features: Features, rows: Sequence[TokenizedRow], *, advance: Callable[[int], None]) -> Tensor:
        """Features of rows in their order, in float32.

        Raises:
            OutOfMemoryError: a single row does not fit; it is named.
        """
        blocks = []
        waiting = deque(split_by_tokens(rows, self.tokens_per_batch))
        while waiting:
            group = waiting.popleft()
            try:
                blocks.append(features.compute(collate(group, pad_token_id=self.pad_token_id).to(self.device)))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._shrink(group)
                waiting.extendleft([group[len(group) // 2 :], group[: len(group) // 2]])
                continue
            advance(len(group))
        return torch.cat(blocks)

    def _shrink(self, group: Sequence[TokenizedRow]) -> None:
        n_tokens = len(group) * max(len(row.input_ids) for row in group)
        if len(group) == 1:
            raise OutOfMemoryError(
                f"example '{group[0].example_id}' of {n_tokens} tokens does not fit in memory on {self.device}; "
                "lower max_length or lora.rank, or use a smaller model"
            )
        if torch.device(self.device).type == "cuda":
            torch.cuda.empty_cache()
        self.tokens_per_batch = min(self.tokens_per_batch, n_tokens) // 2
        self.announce(f"out of memory with {n_tokens} tokens; going on with {self.tokens_per_batch} in a batch")
