"""Tasks of the package ``lm-eval`` (EleutherAI's evaluation harness), asked as the package asks them.

The prompts, the few-shot examples and the metrics are the package's own; the chat format is not used.
"""

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from lessexp.data.rows import Row
from lessexp.errors import UserError
from lessexp.evaluation.base import Examinee, Prediction, Reader, asked
from lessexp.evaluation.limit import limited
from lessexp.files import sha256_of_all
from lessexp.identity import source_hash


class LMEvalError(UserError, RuntimeError):
    """The package is not there, or has no such task or metric."""


def _package():
    try:
        import lm_eval
        import lm_eval.models.huggingface
        import lm_eval.tasks
    except ImportError as error:
        raise LMEvalError("benchmark=lm_eval needs the package lm-eval: pip install 'lessexp[lm-eval]'") from error
    return lm_eval


class LMEvalBenchmark:
    """Tasks of lm-eval, each a subtask; answer NLL is taken of question and right answer without examples.

    Args:
        tasks: their names.
        include_path: a folder with more task files; ``None``: none.
        metric: the one that is the benchmark's own; the tasks' others are kept beside it.
        num_fewshot: solved examples before each question; ``None``: as many as each task says.
        batch_size: questions at once.
        limit: at most so many questions of a task, drawn by ``seed``; ``None``: all.
        seed: of the draw and of the choice of examples.

    Raises:
        LMEvalError: the package is not installed, or it has no such task.
    """

    def __init__(
        self,
        *,
        tasks: Sequence[str],
        include_path: str | None,
        metric: str,
        num_fewshot: int | None,
        batch_size: int,
        limit: int | None,
        seed: int,
    ):
        self.metric = metric
        self.left_out: dict[str, str] = {}
        self._include_path = include_path
        self._num_fewshot = num_fewshot
        self._batch_size = batch_size
        self._seed = seed
        self._manager = _package().tasks.TaskManager(include_path=include_path)
        self._higher_is_better: dict[str, bool] = {}
        self._rows: dict[tuple[str, int], Row] = {}
        for name in tasks:
            if name not in self._manager.all_subtasks:
                raise LMEvalError(f"lm-eval has no task '{name}'; see `lm-eval ls tasks` and benchmark.include_path")
            found = [((name, index), row) for index, row in enumerate(self._rows_of(name))]
            self._rows |= limited(
                found,
                limit=limit,
                seed=seed,
                subtask_of=lambda item: item[0][0],
                name_of=lambda item: item[1].example_id,
            )

    def _rows_of(self, name: str) -> Iterable[Row]:
        task = self._manager.load([name])["tasks"][name]
        self._higher_is_better |= task.higher_is_better()
        for index, doc in enumerate(task.eval_docs):
            answer = task.doc_to_target(doc)
            if isinstance(answer, int) and task.config.doc_to_choice is not None:
                answer = task.doc_to_choice(doc)[answer]
            answer = answer[0] if isinstance(answer, list) else answer
            messages = (("user", str(task.doc_to_text(doc))), ("assistant", str(answer)))
            yield Row(name, f"{name}-{index:06d}", messages, "lm_eval", name)

    @property
    def identity(self) -> Any:
        """The package's version, the tasks' files and how they are asked; the questions themselves are rows."""
        folder = [] if self._include_path is None else sorted(Path(self._include_path).rglob("*.yaml"))
        settings = [self.metric, self._num_fewshot, self._batch_size, self._seed]
        return [
            "lm-eval",
            importlib.metadata.version("lm_eval"),
            sha256_of_all(folder),
            settings,
            source_hash(type(self)),
        ]

    def rows(self) -> list[Row]:
        """Questions and right answers without solved examples."""
        return list(self._rows.values())

    def fit(self, rows: Sequence[Row], reader: Reader, *, max_length: int) -> list[Row]:
        """The rows as they are; lm-eval adds the examples, and cuts long prompts at their start."""
        return list(rows)

    def cut(self, rows: Sequence[Row], reader: Reader, *, max_length: int) -> list[str]:
        """None that is known: lm-eval warns of those that it cuts."""
        return []

    def questions(self) -> dict[str, str]:
        """What is asked, by example id."""
        return asked(self.rows())

    def judge(self, examinee: Examinee, rows: Sequence[Row]) -> list[Prediction]:
        """What lm-eval finds, question by question.

        Raises:
            LMEvalError: a task has no such metric.
        """
        place = {row.example_id: place for place, row in self._rows.items()}
        wanted: dict[str, list[int]] = {}
        # In the order of the task's file: lm-eval goes through it so, and numbers what it meets by this list.
        for name, index in sorted(place[row.example_id] for row in rows):
            wanted.setdefault(name, []).append(index)
        package = _package()
        model = package.models.huggingface.HFLM(
            pretrained=examinee.model,
            tokenizer=examinee.tokenizer,
            batch_size=self._batch_size,
            max_length=examinee.max_length,
        )
        found = package.simple_evaluate(
            model=model,
            tasks=list(wanted),
            samples=wanted,
            num_fewshot=self._num_fewshot,
            task_manager=self._manager,
            log_samples=True,
            bootstrap_iters=0,
            fewshot_random_seed=self._seed,
        )
        # Where a task reads answers in several ways, the first one counts.
        samples = {(name, sample["doc_id"]): sample for name in wanted for sample in reversed(found["samples"][name])}
        examinee.advance(len(rows))
        return [self._prediction(row, samples[place[row.example_id]]) for row in rows]

    def higher_is_better(self, metric: str) -> bool:
        """What the tasks say of a metric; true of one that none of them knows."""
        return self._higher_is_better.get(metric, True)

    def _prediction(self, row: Row, sample: Mapping[str, Any]) -> Prediction:
        scores = {
            name: float(sample[name])
            for name in sample["metrics"]
            if isinstance(sample.get(name), Real)  # others, such as perplexity, are no number of one question
        }
        if self.metric not in scores:
            raise LMEvalError(
                f"lm-eval's task '{row.subtask}' has no metric '{self.metric}' of single questions; "
                f"set benchmark.metric to one of {', '.join(scores) or 'none: choose another task'}"
            )
        return Prediction(
            example_id=row.example_id,
            subtask=row.subtask,
            answer=str(sample["filtered_resps"]),
            reference=row.messages[-1][1],
            score=scores.pop(self.metric),
            further_scores=scores,
        )
