"""What a model answers to test rows, and what the answers are worth."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from lessexp.data.prepare import Reader
from lessexp.data.rows import Row
from lessexp.data.tokenize import TokenizedRow
from lessexp.evaluation.answer_nll import ANSWER_NLL, answer_nll
from lessexp.evaluation.base import Benchmark, Examinee
from lessexp.files import read_json, write_json
from lessexp.identity import Hashed, identity_of
from lessexp.models.source import Weights
from lessexp.stages.configuration import ExperimentError
from lessexp.stages.cost import forward_flops
from lessexp.stages.model_in_use import Model
from lessexp.stages.progress import progress_bar
from lessexp.stages.runtime import Runtime
from lessexp.stages.tuning import Tuning

_FILE = "answers.json"

Scores = Mapping[str, Mapping[str, float]]
"""Values of the rows by metric, then by example id."""


@dataclass(frozen=True)
class Tuned:
    """What final training has left in a folder.

    Attributes:
        tuning: how it is loaded.
        folder: holds the adapter or the model.
    """

    tuning: Tuning
    folder: Path

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The way of loading it, and the content of the files."""
        return {"tuning": identity_of(self.tuning), "weights": Weights(self.folder).identity}


@dataclass(frozen=True)
class Answers:
    """Answers of one model, before or after final training.

    Attributes:
        model: that is asked.
        tuned: what training has left; ``None`` for the model before it.
        reader: how it is spoken to.
        benchmark: asks and judges.
        rows: the questions, right answers included.
    """

    version: ClassVar[int] = 2
    by_all: ClassVar[bool] = False

    model: Model
    tuned: Tuned | None
    reader: Reader
    benchmark: Hashed[Benchmark]
    rows: Hashed[Sequence[Row]]

    @property
    def kind(self) -> str:
        """The folder that holds it and its like."""
        return "base_answers" if self.tuned is None else "tuned_answers"

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        """Ask.

        Raises:
            ExperimentError: a score is not finite.
        """
        benchmark, rows = self.benchmark.value, self.rows.value
        passes = 1 if benchmark.metric is None else 2
        model = self._load(runtime)
        name = "base" if self.tuned is None else "tuned"
        with progress_bar(f"evaluation of the {name} model", total=passes * len(rows)) as advance:
            examinee = Examinee(
                model=model,
                tokenizer=self.reader.tokenizer,
                chat_format=self.reader.chat_format,
                max_length=self.reader.max_length,
                tokens_per_batch=runtime.evaluation_tokens_per_batch,
                advance=advance,
            )
            scores: dict[str, dict[str, float]] = {ANSWER_NLL: answer_nll(examinee, rows)}
            predictions = benchmark.judge(examinee, rows)
        for prediction in predictions:
            by_metric = {benchmark.metric: prediction.score, **prediction.further_scores}
            for metric, score in by_metric.items():
                scores.setdefault(metric, {})[prediction.example_id] = score
        _require_finite(scores)
        write_json(folder / _FILE, {"scores": scores, "predictions": [asdict(one) for one in predictions]})
        read = [row for row in map(self.reader.tokenize, rows) if isinstance(row, TokenizedRow)]
        n_tokens = passes * sum(len(row.input_ids) for row in read)
        return {"n_rows": len(rows), "flops": forward_flops(model.num_parameters(), n_tokens)}

    def _load(self, runtime: Runtime) -> nn.Module:
        if self.tuned is None:
            return self.model.load(runtime)
        return self.tuned.tuning.tuned(self.model, runtime, self.tuned.folder)


def _require_finite(scores: Scores) -> None:
    for metric, by_row in scores.items():
        if wrong := [example_id for example_id, value in by_row.items() if not math.isfinite(value)]:
            raise ExperimentError(
                f"{metric} of {len(wrong)} of {len(by_row)} test rows is not finite, first of '{wrong[0]}'; "
                "training has diverged (lower finetune.training.learning_rate), or the model needs model.dtype=float32"
            )


def read_answers(folder: Path) -> tuple[Scores, list[dict[str, Any]]]:
    """Scores and predictions of finished answers."""
    found = read_json(folder / _FILE)
    return found["scores"], found["predictions"]
