"""What a benchmark is, and how its scores for single examples become numbers for subtasks."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import nn
from transformers import PreTrainedTokenizerBase

from lessexp.data.chat_format import ChatFormat
from lessexp.data.rows import Row

Advance = Callable[[int], None]
"""Told how many examples were finished since the last call, for a progress bar."""


@runtime_checkable
class Reader(Protocol):
    """How a model is spoken to; an `Examinee` is one."""

    tokenizer: PreTrainedTokenizerBase
    chat_format: ChatFormat


@dataclass(frozen=True)
class Examinee:
    """The model under evaluation and how it is spoken to.

    Attributes:
        model: in evaluation mode.
        tokenizer: of the model.
        chat_format: the one it was trained with.
        max_length: rows are cut off here [tokens].
        tokens_per_batch: bound on a batch's padded tokens.
        advance: progress.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    chat_format: ChatFormat
    max_length: int
    tokens_per_batch: int
    advance: Advance


@dataclass(frozen=True)
class Prediction:
    """What the model answered to one row, and what that is worth.

    Attributes:
        example_id: of the row.
        subtask: of the row.
        answer: as the model gave it.
        reference: a right answer.
        score: by the benchmark's own metric.
        further_scores: by its other metrics, by name.
    """

    example_id: str
    subtask: str
    answer: str
    reference: str
    score: float
    further_scores: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class Benchmark(Protocol):
    """Held-out rows of the wanted skill and a way to judge answers to them."""

    metric: str | None
    """Name of the benchmark's own metric; ``None`` if answer NLL is all there is."""
    left_out: Mapping[str, str]
    """Test questions that a solved example gives away, and where that one stands; they are not among the rows."""

    def rows(self) -> list[Row]:
        """The held-out rows, right answers included, each with a subtask."""

    def fit(self, rows: Sequence[Row], reader: Reader, *, max_length: int) -> list[Row]:
        """``rows`` with as many of their solved examples as leave room for the answer in ``max_length`` tokens."""

    def cut(self, rows: Sequence[Row], reader: Reader, *, max_length: int) -> list[str]:
        """Example ids of the ``rows`` whose prompt loses its start in `judge`, for room in ``max_length`` tokens."""

    def questions(self) -> dict[str, str]:
        """What each row asks, without instructions and solved examples, by example id."""

    def judge(self, examinee: Examinee, rows: Sequence[Row]) -> list[Prediction]:
        """The model's answers to ``rows`` and their scores; empty if ``metric`` is ``None``."""

    def higher_is_better(self, metric: str) -> bool:
        """Whether high values of a metric, its own or another of its predictions, are good."""


def mean_by_subtask(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Mean of the values of each subtask, in the order subtasks first occur."""
    collected: dict[str, list[float]] = {}
    for subtask, value in values:
        collected.setdefault(subtask, []).append(value)
    return {subtask: sum(found) / len(found) for subtask, found in collected.items()}


def asked(rows: Iterable[Row]) -> dict[str, str]:
    """What the user says in each row, by example id: the questions of rows without solved examples."""
    return {row.example_id: "\n".join(content for role, content in row.messages if role == "user") for row in rows}
