"""What the base and the tuned model answered to the same test questions."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lessexp.data.record_files import json_records


@dataclass(frozen=True)
class AnsweredTwice:
    """A test question with both answers.

    Attributes:
        example_id: of the question.
        subtask: of the question.
        question: its text, without instructions and solved examples; None if it is not known.
        reference: a right answer.
        base: the base model's answer.
        base_score: by the benchmark's metric.
        tuned: the tuned model's answer.
        tuned_score: by the benchmark's metric.
    """

    example_id: str
    subtask: str
    question: str | None
    reference: str
    base: str
    base_score: float
    tuned: str
    tuned_score: float


@dataclass(frozen=True)
class Predictions:
    """Questions to show, and how all of them went.

    Attributes:
        listed: subtasks in turns, each in the order of its questions.
        n_questions: how many there are.
        n_higher: how many the tuned model's score is higher for.
        n_lower: how many it is lower for.
    """

    listed: list[AnsweredTwice]
    n_questions: int
    n_higher: int
    n_lower: int


NO_PREDICTIONS = Predictions([], 0, 0, 0)


def read_predictions(file: Path, questions: Mapping[str, str], *, n_listed: int) -> Predictions:
    """Read ``predictions.jsonl``.

    Args:
        file: one line for each model and question; empty where the benchmark asks for no answers.
        questions: texts by id.
        n_listed: how many to show at most.
    """
    by_model: dict[str, dict[str, dict[str, Any]]] = {"base": {}, "tuned": {}}
    for _, record in json_records(file):
        by_model[record["model"]][record["example_id"]] = record
    answered = [
        AnsweredTwice(
            example_id=example_id,
            subtask=base["subtask"],
            question=questions.get(example_id),
            reference=base["reference"],
            base=base["answer"],
            base_score=float(base["score"]),
            tuned=by_model["tuned"][example_id]["answer"],
            tuned_score=float(by_model["tuned"][example_id]["score"]),
        )
        for example_id, base in by_model["base"].items()
    ]
    return Predictions(
        listed=_in_turns(answered)[:n_listed],
        n_questions=len(answered),
        n_higher=sum(one.tuned_score > one.base_score for one in answered),
        n_lower=sum(one.tuned_score < one.base_score for one in answered),
    )


def _in_turns(answered: Iterable[AnsweredTwice]) -> list[AnsweredTwice]:
    by_subtask: dict[str, list[AnsweredTwice]] = {}
    for one in answered:
        by_subtask.setdefault(one.subtask, []).append(one)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*by_subtask.values()))
    return [one for one in turns if one is not None]
