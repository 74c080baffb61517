"""Benchmarks of test questions after solved examples of their subtask; the way of answering is a part of its own."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from lessexp.data.few_shot import Exercise, FewShotRow, Templates, by_subtask, few_shot_row, of_subtasks
from lessexp.data.rendering import conversation_ids, prompt_ids
from lessexp.data.rows import Row
from lessexp.evaluation.base import Examinee, Prediction, Reader
from lessexp.evaluation.generation import cut_prompts
from lessexp.evaluation.leaks import QuestionIndex
from lessexp.evaluation.limit import limited


@runtime_checkable
class Answering(Protocol):
    """How a model answers a question, and what the answer is worth."""

    metric: str
    """Name of the worth."""

    def judge(
        self, examinee: Examinee, rows: Sequence[Row], items: Sequence[FewShotRow], *, max_new_tokens: int
    ) -> list[Prediction]:
        """The answers to ``rows``, made of ``items``, none longer than ``max_new_tokens``, and their scores."""


class FewShotBenchmark:
    """Test questions with their solved examples, and answers to them.

    Args:
        read: reader of the benchmark's files, ``(path, *, repo_id, split)``.
        answering: how questions are answered.
        path: local file of test questions; ``None``: the hub.
        dev_path: local file of solved examples; ``None``: the hub.
        repo_id: the hub's name of the data set.
        task: name of the benchmark.
        subtasks: only these; ``None``: all.
        n_shots: examples before each question, the first of its subtask.
        prompts: words of the prompts.
        max_new_tokens: answers are cut off here.
        limit: at most so many questions of a subtask, drawn by ``seed``; ``None``: all.
        seed: of the draw.
        ngram: see `lessexp.evaluation.leaks.QuestionIndex`.

    Attributes:
        metric: of ``answering``.
        left_out: test questions that a solved example asks word by word, and where; they are no test.
    """

    def __init__(
        self,
        read: Callable[..., list[Exercise]],
        answering: Answering,
        *,
        path: str | None,
        dev_path: str | None,
        repo_id: str,
        task: str,
        subtasks: Sequence[str] | None,
        n_shots: int,
        prompts: Templates,
        max_new_tokens: int,
        limit: int | None,
        seed: int,
        ngram: int,
    ):
        self.metric = answering.metric
        self.max_new_tokens = max_new_tokens
        self._answering = answering
        examples = of_subtasks(read(dev_path, repo_id=repo_id, split="dev"), subtasks)
        chosen = by_subtask(examples, at_most=n_shots)
        drawn = limited(
            of_subtasks(read(path, repo_id=repo_id, split="test"), subtasks),
            limit=limit,
            seed=seed,
            subtask_of=lambda exercise: exercise.subtask,
            name_of=lambda exercise: exercise.exercise_id,
        )
        self._items: dict[str, FewShotRow] = {}
        for exercise in drawn:
            before = chosen.get(exercise.subtask, [])
            item = few_shot_row(_completed(exercise, before), before, task=task, templates=prompts)
            self._items[item.row(0).example_id] = item
        # The published sets are not free of this: five of MMLU's development questions are test questions word by word.
        index = QuestionIndex(self.questions(), ngram=ngram, min_share=1.0)
        self.left_out = {leak.question: leak.found_in for leak in index.leaks((e.where, [e.content]) for e in examples)}
        for example_id in self.left_out:
            del self._items[example_id]

    def item(self, row: Row) -> FewShotRow:
        """What a row was made of."""
        return self._items[row.example_id]

    def rows(self) -> list[Row]:
        """The questions with all their examples."""
        return [item.row(len(item.shots)) for item in self._items.values()]

    def questions(self) -> dict[str, str]:
        """What is asked, by example id."""
        return {example_id: item.exercise.content for example_id, item in self._items.items()}

    def fit(self, rows: Sequence[Row], reader: Reader, *, max_length: int) -> list[Row]:
        """The rows without as many of their first examples as are too many for ``max_length`` tokens.

        A row fits if both its prompt with the longest possible answer and the whole row with its right answer do.
        One that does not fit even without examples keeps none.
        """
        fitted = []
        for given in rows:
            item = self.item(given)
            candidates = (item.row(n_shots) for n_shots in range(len(item.shots), 0, -1))
            fits = (
                row
                for row in candidates
                if _length(row, item.templates.cue, reader, max_new_tokens=self.max_new_tokens) <= max_length
            )
            fitted.append(next(fits, item.row(0)))
        return fitted

    def cut(self, rows: Sequence[Row], reader: Reader, *, max_length: int) -> list[str]:
        """Those of the rows without solved examples that are too long even so."""
        bare = [row for row in rows if row == self.item(row).row(0)]
        cues = [self.item(row).templates.cue for row in bare]
        return cut_prompts(bare, reader, max_length=max_length, max_new_tokens=self.max_new_tokens, cues=cues)

    def judge(self, examinee: Examinee, rows: Sequence[Row]) -> list[Prediction]:
        """The model's answers and what they are worth."""
        items = [self.item(row) for row in rows]
        return self._answering.judge(examinee, rows, items, max_new_tokens=self.max_new_tokens)

    def higher_is_better(self, metric: str) -> bool:
        """Always: an answer's worth goes from 0 to 1."""
        return True


def _completed(exercise: Exercise, examples: Sequence[Exercise]) -> Exercise:
    """The question with those fields of its subtask that only the examples hold, such as BBH's instruction."""
    if not examples:
        return exercise
    fields = {name: value or examples[0].fields.get(name, "") for name, value in exercise.fields.items()}
    return replace(exercise, fields=fields)


def _length(row: Row, cue: str, reader: Reader, *, max_new_tokens: int) -> int:
    spoken = {"tokenizer": reader.tokenizer, "chat_format": reader.chat_format}
    prompt = len(prompt_ids(row.messages[:-1], cue, **spoken)) + max_new_tokens
    _, whole, _ = conversation_ids(row.messages, **spoken)
    return max(prompt, len(whole))
