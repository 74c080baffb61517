"""Benchmarks whose answers the model writes: TydiQA, BBH, GSM8K; each has its own reader and its own score."""

from collections.abc import Callable, Mapping, Sequence

from lessexp.data.few_shot import Exercise, Templates
from lessexp.data.rows import Row
from lessexp.evaluation.base import Examinee, Prediction, Reader
from lessexp.evaluation.few_shot import FewShotExam
from lessexp.evaluation.generation import greedy_answers


class WrittenAnswerBenchmark:
    """Few-shot questions, greedy answers, a score by comparison with the right answers.

    Args:
        read: reader of the benchmark's files, ``(path, *, repo_id, split)``.
        score: worth of an answer by each metric, ``(answer, right answers)``.
        metric: the one of these that is the benchmark's own.
        path: local file of test questions; ``None``: the hub.
        dev_path: local file of solved examples; ``None``: the hub.
        repo_id: the hub's name of the data set.
        task: name of the benchmark.
        prompts: words of the prompts.
        subtasks: only these; ``None``: all.
        n_shots: solved examples before each question.
        max_new_tokens: answers are cut off here.
        limit: at most so many questions of a subtask, drawn by ``seed``; ``None``: all.
        seed: of the draw.
        ngram: see `lessexp.evaluation.leaks.QuestionIndex`.
    """

    def __init__(
        self,
        read: Callable[..., list[Exercise]],
        score: Callable[[str, Sequence[str]], Mapping[str, float]],
        *,
        metric: str,
        path: str | None,
        dev_path: str | None,
        repo_id: str,
        task: str,
        prompts: Templates,
        subtasks: Sequence[str] | None,
        n_shots: int,
        max_new_tokens: int,
        limit: int | None,
        seed: int,
        ngram: int,
    ):
        self.metric = metric
        self.max_new_tokens = max_new_tokens
        self._score = score
        self._stop = tuple(prompts.stop)
        self._exam = FewShotExam(
            tests=read(path, repo_id=repo_id, split="test"),
            shots=read(dev_path, repo_id=repo_id, split="dev"),
            task=task,
            subtasks=subtasks,
            n_shots=n_shots,
            prompts=prompts,
            limit=limit,
            seed=seed,
            ngram=ngram,
        )
        self.left_out = self._exam.left_out

    def rows(self) -> list[Row]:
        """The questions with their solved examples and right answers."""
        return self._exam.rows()

    def fit(self, rows: Sequence[Row], reader: Reader, *, max_length: int) -> list[Row]:
        """See `lessexp.evaluation.few_shot.FewShotExam.fit`."""
        return self._exam.fit(rows, reader, max_length=max_length, max_new_tokens=self.max_new_tokens)

    def questions(self) -> dict[str, str]:
        """What is asked, by example id."""
        return self._exam.questions()

    def judge(self, examinee: Examinee, rows: Sequence[Row]) -> list[Prediction]:
        """Greedy answers and their scores."""
        items = [self._exam.item(row) for row in rows]
        answers = greedy_answers(
            examinee,
            [row.messages[:-1] for row in rows],
            max_new_tokens=self.max_new_tokens,
            stop=self._stop,
            cues=[item.templates.cue for item in items],
        )
        predictions = []
        for row, item, answer in zip(rows, items, answers, strict=True):
            scores = dict(self._score(answer, item.exercise.answers))
            predictions.append(
                Prediction(
                    example_id=row.example_id,
                    subtask=row.subtask,
                    answer=answer,
                    reference=item.exercise.answers[0],
                    score=scores.pop(self.metric),
                    further_scores=scores,
                )
            )
        return predictions
