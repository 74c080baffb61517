"""Questions of a benchmark and the prompts made of them: an instruction, solved examples, the question.

The words of a prompt are values of the configuration (``conf/protocol``), here they are only put together.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lessexp.data.rows import Row, RowError
from lessexp.errors import UserError


class TemplateError(UserError, ValueError):
    """A prompt template that asks for something the questions do not have."""


@dataclass(frozen=True)
class Exercise:
    """One question.

    Attributes:
        exercise_id: unique among the questions of its split.
        subtask: part of the benchmark it belongs to.
        fields: what the templates may refer to.
        answers: all that count as right; the first is the one to learn.
        content: what is asked, without any instruction that other questions share.
        where: file and line it was read from.
    """

    exercise_id: str
    subtask: str
    fields: Mapping[str, str]
    answers: tuple[str, ...]
    content: str
    where: str = field(compare=False)


@dataclass(frozen=True)
class Templates:
    """How questions become prompts. All are format strings over the fields of an `Exercise`.

    Attributes:
        header: stands before everything; empty for nothing.
        question: the question as it is asked.
        answer: what the assistant says.
        solved: a solved example, over ``{question}`` and ``{answer}`` made by the two above.
        cue: the answer begins with it, and the model is given it; empty for nothing.
        separator: between header, examples and question.
        stop: what ends an answer, besides the end token.
        by_subtask: for a subtask, templates in place of these.
    """

    header: str
    question: str
    answer: str
    solved: str
    cue: str
    separator: str
    stop: Sequence[str]
    by_subtask: Mapping[str, Mapping[str, Any]]

    def of(self, subtask: str) -> "Templates":
        """The templates in force for a subtask."""
        return replace(self, **self.by_subtask.get(subtask, {}))

    def reply(self, exercise: Exercise) -> str:
        """All that the assistant says, the cue included."""
        return f"{self.cue} {_filled(self.answer, exercise.fields, exercise.where)}".strip()


@dataclass(frozen=True)
class FewShotRow:
    """A row and the parts of its prompt, so that it can be had with fewer solved examples."""

    exercise: Exercise
    task: str
    templates: Templates
    header: str
    shots: tuple[str, ...]
    question: str

    def row(self, n_shots: int) -> Row:
        """The row with the last ``n_shots`` of its examples."""
        kept = self.shots[len(self.shots) - n_shots :]
        prompt = self.templates.separator.join([part for part in (self.header, *kept, self.question) if part])
        return Row(
            dataset=self.task,
            example_id=f"{self.task}-{self.exercise.exercise_id}",
            messages=(("user", prompt), ("assistant", self.templates.reply(self.exercise))),
            task=self.task,
            subtask=self.exercise.subtask,
        )


def few_shot_row(exercise: Exercise, shots: Sequence[Exercise], *, task: str, templates: Templates) -> FewShotRow:
    """A question after solved ones."""
    templates = templates.of(exercise.subtask)

    def question(asked: Exercise) -> str:
        return _filled(templates.question, asked.fields, asked.where)

    def solved(shot: Exercise) -> str:
        answer = _filled(templates.answer, shot.fields, shot.where)
        return _filled(templates.solved, {"question": question(shot), "answer": answer}, shot.where)

    return FewShotRow(
        exercise,
        task,
        templates,
        header=_filled(templates.header, exercise.fields, exercise.where),
        shots=tuple(solved(shot) for shot in shots),
        question=question(exercise),
    )


def _filled(template: str, fields: Mapping[str, str], where: str) -> str:
    try:
        return template.format_map(fields)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise TemplateError(
            f"{where}: the prompt template {template!r:.60} cannot be filled ({error}); there are {', '.join(fields)}"
        ) from error


def of_subtasks(exercises: Iterable[Exercise], subtasks: Sequence[str] | None) -> list[Exercise]:
    """Those of some subtasks, all of them with an answer.

    Args:
        exercises: as they were read.
        subtasks: which to keep; ``None``: all.

    Raises:
        RowError: a question has no right answer, or there is no such subtask.
    """
    exercises = list(exercises)
    known = {exercise.subtask for exercise in exercises}
    if missing := set(subtasks or ()) - known:
        raise RowError(f"there is no subtask '{min(missing)}'; the data have {', '.join(sorted(known))}")
    kept = [exercise for exercise in exercises if subtasks is None or exercise.subtask in subtasks]
    for exercise in kept:
        if not exercise.answers:
            raise RowError(
                f"{exercise.where}: the question has no answer (some copies of a test set come without them); "
                f"take a file with answers, or leave subtask '{exercise.subtask}' out by subtasks=[...]"
            )
    return kept


def by_subtask(exercises: Iterable[Exercise], *, at_most: int) -> dict[str, list[Exercise]]:
    """The first ``at_most`` exercises of each subtask, in the order subtasks first occur."""
    found: dict[str, list[Exercise]] = {}
    for exercise in exercises:
        of_subtask = found.setdefault(exercise.subtask, [])
        if len(of_subtask) < at_most:
            of_subtask.append(exercise)
    return found
