"""Held-out problems of reasoning-gym families, judged by the package's own scorers."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

from lessexp.data.reasoning_gym import family_dataset, generate_problems
from lessexp.data.rows import Row
from lessexp.evaluation.base import Examinee, Prediction, Reader, asked
from lessexp.evaluation.generation import cut_prompts, greedy_answers
from lessexp.evaluation.limit import limited


class ReasoningGymBenchmark:
    """Problems drawn with a seed of their own.

    Args:
        families: settings of each family's generator by family name.
        rows_per_family: how many problems of each.
        seed: must differ from the seeds of pool and target.
        max_new_tokens: answers are cut off here.
        limit: at most so many problems of a family, drawn by ``limit_seed``; ``None``: all.
        limit_seed: of the draw.
    """

    metric = "score"

    def __init__(
        self,
        families: Mapping[str, Mapping[str, Any]],
        *,
        rows_per_family: int,
        seed: int,
        max_new_tokens: int,
        limit: int | None,
        limit_seed: int,
    ):
        self.left_out: dict[str, str] = {}
        self.package_version = importlib.metadata.version("reasoning-gym")  # which brings the scorers
        self.families = families
        self.max_new_tokens = max_new_tokens
        self.problems = limited(
            generate_problems(families, rows_per_family=rows_per_family, seed=seed, split="test"),
            limit=limit,
            seed=limit_seed,
            subtask_of=lambda problem: problem.row.subtask,
            name_of=lambda problem: problem.row.example_id,
        )

    def rows(self) -> list[Row]:
        """The problems' rows, with the expected answers."""
        return [problem.row for problem in self.problems]

    def fit(self, rows: Sequence[Row], reader: Reader, *, max_length: int) -> list[Row]:
        """The rows as they are: they have no solved examples."""
        return list(rows)

    def cut(self, rows: Sequence[Row], reader: Reader, *, max_length: int) -> list[str]:
        """Those too long for an answer beside them."""
        return cut_prompts(rows, reader, max_length=max_length, max_new_tokens=self.max_new_tokens)

    def questions(self) -> dict[str, str]:
        """The problems."""
        return asked(self.rows())

    def judge(self, examinee: Examinee, rows: Sequence[Row]) -> list[Prediction]:
        """Greedy answers and the family scorer's verdict on each, 0 to 1."""
        entries = {problem.row.example_id: problem.entry for problem in self.problems}
        scorers = {
            family: family_dataset(family, settings or {}, size=1, seed=0) for family, settings in self.families.items()
        }
        answers = greedy_answers(examinee, [row.messages[:-1] for row in rows], max_new_tokens=self.max_new_tokens)
        return [
            Prediction(
                example_id=row.example_id,
                subtask=row.dataset,
                answer=answer,
                reference=row.messages[-1][1],
                score=float(scorers[row.dataset].score_answer(answer, entries[row.example_id])),
            )
            for row, answer in zip(rows, answers, strict=True)
        ]

    def higher_is_better(self, metric: str) -> bool:
        """Always: the verdicts go from 0 to 1."""
        return True
