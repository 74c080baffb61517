"""Four-choice questions (MMLU) from the hub or from a JSON-lines file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lessexp.data.pool import DataUnavailableError
from lessexp.data.rows import RowError
from lessexp.errors import MissingFileError

LETTERS = "ABCD"


@dataclass(frozen=True)
class Question:
    """One question; ``answer`` is the letter of the right choice."""

    question_id: str
    subject: str
    question: str
    choices: tuple[str, ...]
    answer: str


def question_text(question: Question) -> str:
    """The question, its lettered choices and the cue ``Answer:``, a line each."""
    lines = [question.question.strip()]
    lines += [f"{letter}. {choice}" for letter, choice in zip(LETTERS, question.choices, strict=True)]
    return "\n".join([*lines, "Answer:"])


def few_shot_prompt(question: Question, shots: Sequence[Question]) -> str:
    """Header with the subject, solved questions, and the question itself (Hendrycks et al., arXiv:2009.03300)."""
    header = f"The following are multiple choice questions (with answers) about {question.subject.replace('_', ' ')}."
    solved = [f"{question_text(shot)} {shot.answer}" for shot in shots]
    return "\n\n".join([header, *solved, question_text(question)])


def read_questions(path: str | None, *, repo_id: str, split: str) -> list[Question]:
    """Questions in the order of the source.

    Args:
        path: JSON lines of ``{"subject", "question", "choices": [4 strings], "answer": "A".."D"}``;
            ``None`` loads ``repo_id`` from the Hugging Face hub.
        repo_id: the hub's name of the data set.
        split: ``dev`` or ``test``, on the hub.

    Raises:
        MissingFileError: no such file.
        RowError: a line breaks the format.
        DataUnavailableError: the hub cannot be reached.
    """
    records = _local_records(Path(path).expanduser()) if path else _hub_records(repo_id, split)
    questions = []
    for where, record in records:
        choices, answer = record.get("choices"), record.get("answer")
        if type(answer) is int and 0 <= answer < len(LETTERS):
            answer = LETTERS[answer]
        if not isinstance(choices, list) or len(choices) != len(LETTERS) or answer not in tuple(LETTERS):
            raise RowError(f"{where}: needs four 'choices' and an 'answer' among {', '.join(LETTERS)}")
        if not isinstance(record.get("subject"), str) or not isinstance(record.get("question"), str):
            raise RowError(f"{where}: 'subject' and 'question' must be strings")
        questions.append(
            Question(
                question_id=f"{split}-{len(questions):05d}",
                subject=record["subject"],
                question=record["question"],
                choices=tuple(map(str, choices)),
                answer=answer,
            )
        )
    return questions


def _local_records(path: Path) -> list[tuple[str, dict]]:
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file of multiple-choice questions")
    records = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise RowError(f"{path}, line {number}: not valid JSON ({error})") from error
        if not isinstance(record, dict):
            raise RowError(f"{path}, line {number}: a question must be a JSON object")
        records.append((f"{path}, line {number}", record))
    return records


def _hub_records(repo_id: str, split: str) -> list[tuple[str, dict]]:
    import datasets  # takes seconds to import, and local files do not need it

    try:
        loaded = datasets.load_dataset(repo_id, "all", split=split)
    # Offline, refused and missing all arrive as different classes of three libraries.
    except Exception as error:
        raise DataUnavailableError(
            f"could not fetch '{repo_id}' from the Hugging Face hub ({type(error).__name__}); "
            "set target.path and benchmark.path to local files of its dev and test questions"
        ) from error
    return [(f"{repo_id} {split}, row {number}", record) for number, record in enumerate(loaded, start=1)]
