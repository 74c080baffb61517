"""The few examples that say which skill is wanted. Every loader returns rows with a subtask."""

from collections.abc import Callable, Sequence

from lessexp.data.few_shot import Exercise, Templates, by_subtask, few_shot_row, of_subtasks
from lessexp.data.row_paths import files_named
from lessexp.data.rows import Row, read_rows
from lessexp.data.source import Paths
from lessexp.errors import UserError


class EmptyTargetError(UserError, ValueError):
    """A target without rows: nothing says which skill is wanted."""


def jsonl_target(path: Paths) -> list[Row]:
    """Target rows of files in the row format with ``task`` and ``subtask``.

    Args:
        path: files, folders or patterns, see `lessexp.data.row_paths.files_named`.

    Raises:
        MissingFileError: no such file, or one that cannot be read.
        RowError: see `lessexp.data.rows.read_rows`.
        EmptyTargetError: the files hold no row.
    """
    rows = read_rows(files_named(path, key="target.path"), is_target=True)
    if not rows:
        raise EmptyTargetError(f"target.path: {path} holds no row; give at least one example of the wanted skill")
    return rows


def few_shot_target(
    read: Callable[..., list[Exercise]],
    *,
    task: str,
    path: str | None,
    repo_id: str,
    per_subtask: int,
    n_context: int,
    subtasks: Sequence[str] | None,
    prompts: Templates,
) -> list[Row]:
    """The solved examples of a benchmark, each a row with its reasoning and answer to learn.

    Args:
        read: reader of the benchmark's files, ``(path, *, repo_id, split)``.
        task: name of the benchmark.
        path: local file of solved examples; ``None``: the hub.
        repo_id: the hub's name of the data set.
        per_subtask: how many examples of each subtask, the first ones.
        n_context: how many of the subtask's other examples stand solved in the prompt of each.
        subtasks: only these; ``None``: all.
        prompts: words of the prompts.

    Raises:
        EmptyTargetError: there is no example.
    """
    exercises = of_subtasks(read(path, repo_id=repo_id, split="dev"), subtasks)
    rows = []
    for found in by_subtask(exercises, at_most=per_subtask).values():
        for exercise in found:
            others = [other for other in found if other is not exercise][:n_context]
            rows.append(few_shot_row(exercise, others, task=task, templates=prompts).row(len(others)))
    if not rows:
        raise EmptyTargetError(f"target.path: {path or repo_id} holds no example; give at least one")
    return rows
