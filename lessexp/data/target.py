"""The few examples that say which skill is wanted. Every loader returns rows with a subtask."""

from pathlib import Path

from lessexp.data.multiple_choice import few_shot_prompt, read_questions
from lessexp.data.rows import Row, read_rows
from lessexp.errors import UserError


class EmptyTargetError(UserError, ValueError):
    """A target without rows: nothing says which skill is wanted."""


def jsonl_target(path: str) -> list[Row]:
    """Target rows of a file in the row format with ``task`` and ``subtask``.

    Raises:
        MissingFileError: no such file.
        RowError: see `lessexp.data.rows.read_rows`.
        EmptyTargetError: the file holds no row.
    """
    rows = read_rows([Path(path).expanduser()], is_target=True)
    if not rows:
        raise EmptyTargetError(f"target.path: {path} holds no row; give at least one example of the wanted skill")
    return rows


def mmlu_target(path: str | None, repo_id: str) -> list[Row]:
    """MMLU's development questions: five for each of 57 subjects, one subtask a subject.

    Args:
        path: local ``dev`` file, see `lessexp.data.multiple_choice.read_questions`; ``None``: the hub.
        repo_id: the hub's name of the data set.
    """
    return [
        Row(
            dataset="mmlu",
            example_id=f"mmlu-{question.question_id}",
            messages=(("user", few_shot_prompt(question, shots=[])), ("assistant", question.answer)),
            task="mmlu",
            subtask=question.subject,
        )
        for question in read_questions(path, repo_id=repo_id, split="dev")
    ]
