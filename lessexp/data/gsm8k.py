"""GSM8K's word problems (Cobbe et al., arXiv:2110.14168) from the hub or from a JSON-lines file."""

import re

from lessexp.data.few_shot import Exercise
from lessexp.data.records import hub_records, local_records, text_field
from lessexp.data.rows import RowError

# The hub's copy has no split of its own for examples to learn from.
_HUB_SPLITS = {"dev": "train", "test": "test"}
_CALCULATOR = re.compile(r"<<[^>]*>>")
SUBTASK = "gsm8k"


def read_gsm8k(path: str | None, *, repo_id: str, split: str) -> list[Exercise]:
    """Problems in the order of the source, all of one subtask; their fields are ``question cot answer``.

    Args:
        path: JSON lines of ``{"question", "cot", "answer"}``, or of ``{"question", "answer"}`` as published, where the
            answer holds the reasoning with notes for a calculator, ``####`` and the number; ``None`` loads ``repo_id``
            from the Hugging Face hub.
        repo_id: the hub's name of the data set.
        split: ``dev`` or ``test``; ``dev`` are the hub's train rows.

    Raises:
        MissingFileError: no such file.
        RowError: a line breaks the format.
        DataUnavailableError: the hub cannot be reached.
    """
    exercises = []
    for where, record in local_records(path) if path else hub_records(repo_id, "main", _HUB_SPLITS[split]):
        question, answer = (text_field(record, name, where).strip() for name in ("question", "answer"))
        if "cot" in record:
            cot = text_field(record, "cot", where).strip()
        else:
            reasoning, found, answer = answer.rpartition("####")
            if not found:
                raise RowError(f"{where}: 'answer' must end with '#### number' where there is no 'cot'")
            cot, answer = _CALCULATOR.sub("", reasoning).strip(), answer.strip()
        if split == "test" and not re.search(r"\d", answer):
            raise RowError(f"{where}: 'answer' holds no number, so that no answer can be right; it is {answer!r:.80}")
        exercises.append(
            Exercise(
                exercise_id=f"{split}-{len(exercises):05d}",
                subtask=SUBTASK,
                fields={"question": question, "cot": cot, "answer": answer},
                answers=(answer,),
                content=question,
                where=where,
            )
        )
    return exercises
