"""Answers that the model writes: those of TydiQA, BBH and GSM8K, each of which has its own score."""

from collections.abc import Callable, Mapping, Sequence

from lessexp.data.few_shot import FewShotRow
from lessexp.data.rows import Row
from lessexp.evaluation.base import Examinee, Prediction
from lessexp.evaluation.generation import greedy_answers


class WrittenAnswer:
    """A greedy answer, and a score by comparison with the right answers.

    Args:
        score: worth of an answer by each metric, ``(answer, right answers)``.
        metric: the one of these that is the benchmark's own.
    """

    def __init__(self, score: Callable[[str, Sequence[str]], Mapping[str, float]], *, metric: str):
        self.metric = metric
        self._score = score

    def judge(
        self, examinee: Examinee, rows: Sequence[Row], items: Sequence[FewShotRow], *, max_new_tokens: int
    ) -> list[Prediction]:
        """Greedy answers and their scores."""
        answers = greedy_answers(
            examinee,
            [row.messages[:-1] for row in rows],
            max_new_tokens=max_new_tokens,
            stop=tuple(dict.fromkeys(stop for item in items for stop in item.templates.stop)),
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
