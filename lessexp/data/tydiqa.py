"""TydiQA's gold-passage task (Clark et al., arXiv:2003.05002) from the hub or from a JSON-lines file."""

from collections.abc import Mapping
from typing import Any

from lessexp.data.few_shot import Exercise
from lessexp.data.messages import check_text
from lessexp.data.records import hub_records, local_records, text_field
from lessexp.data.rows import RowError

# The hub's copy has no split of its own for examples to learn from.
_HUB_SPLITS = {"dev": "train", "test": "validation"}


def read_tydiqa(path: str | None, *, repo_id: str, split: str) -> list[Exercise]:
    """Questions with their passages, one subtask a language; their fields are ``context question answer``.

    They are numbered, for the ids of some copies repeat themselves. A file with the field ``shot`` is read in its
    order, so that the first of each language is shot 0.

    Args:
        path: JSON lines of ``{"lang", "context", "question", "answers": [str]}``, with ``shot`` in a file of
            examples; ``None`` loads the secondary task of ``repo_id`` from the Hugging Face hub.
        repo_id: the hub's name of the data set.
        split: ``dev`` or ``test``; on the hub they are its train and validation rows.

    Raises:
        MissingFileError: no such file.
        RowError: a line breaks the format.
        DataUnavailableError: the hub cannot be reached.
    """
    records = list(local_records(path) if path else hub_records(repo_id, "secondary_task", _HUB_SPLITS[split]))
    exercises = []
    for where, record in sorted(records, key=lambda located: _shot(located[1], located[0])):
        # The hub's ids begin with the language, and say it nowhere else.
        if "lang" in record:
            language = text_field(record, "lang", where)
        else:
            language = text_field(record, "id", where).partition("-")[0]
        context, question = (text_field(record, name, where).strip() for name in ("context", "question"))
        answers = _answers(record, where)
        exercises.append(
            Exercise(
                exercise_id=f"{split}-{len(exercises):05d}",
                subtask=language,
                fields={"context": context, "question": question, "answer": answers[0] if answers else ""},
                answers=answers,
                content=f"{context}\n{question}",
                where=where,
            )
        )
    return exercises


def _shot(record: Mapping[str, Any], where: str) -> int:
    shot = record.get("shot", 0)
    if not isinstance(shot, int):
        raise RowError(f"{where}: 'shot' must be a number, got {shot!r:.80}")
    return shot


def _answers(record: Mapping[str, Any], where: str) -> tuple[str, ...]:
    answers = record.get("answers")
    if isinstance(answers, Mapping):
        answers = answers.get("text")
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise RowError(f"{where}: 'answers' must be a list of strings")
    for answer in answers:
        check_text(answer, "one of the 'answers'", where)
    return tuple(dict.fromkeys(answer.strip() for answer in answers if answer.strip()))
