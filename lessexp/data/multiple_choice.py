"""MMLU's four-choice questions (Hendrycks et al., arXiv:2009.03300) from the hub or from a JSON-lines file."""

from lessexp.data.few_shot import Exercise
from lessexp.data.messages import check_text
from lessexp.data.records import hub_records, local_records, text_field
from lessexp.data.rows import RowError

LETTERS = "ABCD"


def read_questions(path: str | None, *, repo_id: str, split: str) -> list[Exercise]:
    """Questions in the order of the source; their fields are ``subject question a b c d answer``.

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
    questions = []
    for where, record in local_records(path) if path else hub_records(repo_id, "all", split):
        choices, answer = record.get("choices"), record.get("answer")
        if type(answer) is int and 0 <= answer < len(LETTERS):
            answer = LETTERS[answer]
        if not isinstance(choices, list) or len(choices) != len(LETTERS) or answer not in tuple(LETTERS):
            raise RowError(f"{where}: needs four 'choices' and an 'answer' among {', '.join(LETTERS)}")
        subject, question = (text_field(record, name, where) for name in ("subject", "question"))
        question = question.strip()
        lettered = dict(zip(LETTERS.lower(), map(str, choices), strict=True))
        for letter, choice in lettered.items():
            check_text(choice, f"choice {letter.upper()}", where)
        questions.append(
            Exercise(
                exercise_id=f"{split}-{len(questions):05d}",
                subtask=subject,
                fields={
                    "subject": subject.replace("_", " "),
                    "question": question,
                    **lettered,
                    "answer": answer,
                },
                answers=(answer,),
                content="\n".join([question, *lettered.values()]),
                where=where,
            )
        )
    return questions
