"""Rows to token ids and labels, and token ids to padded batches."""

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute
import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lessexp.data.arrow_sequence import ArrowSequence
from lessexp.data.chat_format import ChatFormat, ChatFormatError
from lessexp.data.messages import CALLS
from lessexp.data.rendering import conversation_ids
from lessexp.data.rows import Row

IGNORED_LABEL = -100  # what torch.nn.functional.cross_entropy leaves out

TOO_LONG = "no token of its answer is within max_length="
"""How the reason begins for which a row is dropped if a greater length would keep it."""


@dataclass(frozen=True)
class TokenizedRow:
    """One row as the model reads it; ``labels`` equal ``input_ids`` where the loss lies."""

    example_id: str
    input_ids: list[int]
    labels: list[int]

    @property
    def content_hash(self) -> str:
        """Of what the model reads, whatever the row is called."""
        return hashlib.sha256(array("q", [*self.input_ids, *self.labels]).tobytes()).hexdigest()[:32]


@dataclass(frozen=True)
class Dropped:
    """A row that cannot be learnt from, and why."""

    example_id: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """Rows padded on the right to the longest of them."""

    example_ids: list[str]
    input_ids: Int[Tensor, "batch length"]
    attention_mask: Int[Tensor, "batch length"]
    labels: Int[Tensor, "batch length"]

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch with its tensors on ``device``."""
        return Batch(
            self.example_ids,
            self.input_ids.to(device),
            self.attention_mask.to(device),
            self.labels.to(device),
        )


def tokenize_row(
    row: Row, *, tokenizer: PreTrainedTokenizerBase, chat_format: ChatFormat, max_length: int
) -> TokenizedRow | Dropped:
    """Tokenise a conversation once and label its tokens by character offsets.

    A token carries loss when it starts inside a piece that does. Text beyond ``max_length`` tokens
    is cut off; a row that loses all its labels by this is dropped.
    """
    if reason := _nothing_to_learn(row):
        return Dropped(row.example_id, reason)
    try:
        segments, input_ids, offsets = conversation_ids(row.messages, tokenizer=tokenizer, chat_format=chat_format)
    except ChatFormatError as error:
        return Dropped(row.example_id, str(error))
    in_loss = _character_spans((segment.text, segment.in_loss) for segment in segments)
    labels = []
    span = next(in_loss)
    for token, (start, end) in zip(input_ids, offsets, strict=True):
        while start >= span[1]:
            span = next(in_loss)
        # Tokens that the tokenizer adds by itself stand for no text.
        labels.append(token if span[2] and end > start else IGNORED_LABEL)
    n_tokens = len(input_ids)
    input_ids, labels = input_ids[:max_length], labels[:max_length]
    # The first token is never predicted, so a label there carries no loss.
    if all(label == IGNORED_LABEL for label in labels[1:]):
        return Dropped(
            row.example_id,
            f"{TOO_LONG}{max_length} (the row has {n_tokens})",
        )
    return TokenizedRow(row.example_id, input_ids, labels)


def _nothing_to_learn(row: Row) -> str | None:
    """Why its answers teach nothing to any model; None if they say something."""
    answers = [(number, text) for number, (role, text) in enumerate(row.messages) if role == "assistant"]
    blank = [number for number, text in answers if not text.strip()]
    given = json.loads(row.extra).get("messages") if blank and row.extra else None
    if given and any(given[number].get(call) for number in blank for call in CALLS):
        return "an assistant message holds tool calls and no text, and tool calls cannot be rendered yet"
    return "its answer is empty" if len(blank) == len(answers) else None


def _character_spans(pieces: Iterable[tuple[str, bool]]) -> Iterator[tuple[int, float, bool]]:
    position = 0
    for text, in_loss in pieces:
        yield position, position + len(text), in_loss
        position += len(text)
    yield position, float("inf"), False


def tokenize_rows(
    rows: Iterable[Row], *, tokenizer: PreTrainedTokenizerBase, chat_format: ChatFormat, max_length: int
) -> tuple[list[TokenizedRow], list[Dropped]]:
    """Tokenise rows in order; those that cannot be learnt from are listed apart."""
    kept: list[TokenizedRow] = []
    dropped: list[Dropped] = []
    for row in rows:
        result = tokenize_row(row, tokenizer=tokenizer, chat_format=chat_format, max_length=max_length)
        (kept if isinstance(result, TokenizedRow) else dropped).append(result)
    return kept, dropped


def collate(rows: Sequence[TokenizedRow], *, pad_token_id: int) -> Batch:
    """Pad rows to a batch."""
    length = max(len(row.input_ids) for row in rows)

    def padded(values: Iterable[list[int]], fill: int) -> Tensor:
        return torch.tensor([value + [fill] * (length - len(value)) for value in values])

    return Batch(
        example_ids=[row.example_id for row in rows],
        input_ids=padded((row.input_ids for row in rows), pad_token_id),
        attention_mask=padded(([1] * len(row.input_ids) for row in rows), 0),
        labels=padded((row.labels for row in rows), IGNORED_LABEL),
    )


def lengths_of(rows: Sequence[TokenizedRow]) -> Int[np.ndarray, " n"]:
    """Tokens of every row, read as a column where rows are stored in columns."""
    if isinstance(rows, ArrowSequence):
        return rows.column("length").to_numpy()
    return np.array([len(row.input_ids) for row in rows])


def sort_by_length(rows: Sequence[TokenizedRow]) -> Sequence[TokenizedRow]:
    """Rows from short to long (equals by id), so that a batch holds little padding; stored rows stay where they are."""
    if isinstance(rows, ArrowSequence):
        table = pa.table({"length": rows.column("length"), "id": rows.column("id")})
        # Arrow compares strings by their bytes in UTF-8, whose order is that of their characters.
        order = pa.compute.sort_indices(table, sort_keys=[("length", "ascending"), ("id", "ascending")])
        return rows.select(order.to_numpy().astype(np.int64))
    return sorted(rows, key=lambda row: (len(row.input_ids), row.example_id))


def split_by_tokens(rows: Sequence[TokenizedRow], tokens_per_batch: int) -> Iterator[list[TokenizedRow]]:
    """Consecutive groups of at most ``tokens_per_batch`` padded tokens; a longer row stands alone."""
    group: list[TokenizedRow] = []
    longest = 0
    for row in rows:
        longest = max(longest, len(row.input_ids))
        if group and longest * (len(group) + 1) > tokens_per_batch:
            yield group
            group, longest = [], len(row.input_ids)
        group.append(row)
    if group:
        yield group
