"""What a table shows of a run: how it did, and what it cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lessexp.reports.tables import prefix_for, seconds_reused

WANTED_ROWS = "wanted rows"
SECONDS, GPU_HOURS, FLOP, BYTES = COSTS = ("seconds", "GPU-hours", "FLOP", "bytes")

_HIGHER_IS_BETTER_IN_OLDER_RUNS = {
    "answer_nll": False,
    **dict.fromkeys(("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte"), False),
    **dict.fromkeys(("accuracy", "acc", "acc_norm", "exact_match", "f1", "score"), True),
}


@dataclass(frozen=True)
class Measure:
    """A figure that each run has.

    Attributes:
        name: shown above its column.
        metric: what is measured, ``answer_nll`` for example; for a mean over tasks, the metrics of the tasks.
        tasks: those it was measured on, in alphabetical order; none for costs.
        direction: 1 if high values are good, -1 if low ones are, 0 if neither or not known.
    """

    name: str
    metric: str
    tasks: tuple[str, ...]
    direction: int

    @property
    def is_share(self) -> bool:
        """Whether it lies between 0 and 1, and 1 is best."""
        return bool(self.tasks) and self.direction > 0


def direction(metric: str, results: Mapping[str, Any]) -> int:
    """1 if high values of a run's metric are good, -1 if low ones are, 0 if its results do not tell."""
    higher_is_better = results.get("higher_is_better", _HIGHER_IS_BETTER_IN_OLDER_RUNS)
    return {True: 1, False: -1, None: 0}[higher_is_better.get(metric)]


def own_metric(results: Mapping[str, Any]) -> str:
    """The benchmark's own metric, which stands before its others; the answer NLL where there is none."""
    return next((metric for metric in results["metrics"] if metric != "answer_nll"), "answer_nll")


def qualities(results: Mapping[str, Any]) -> dict[Measure, float]:
    """Share of wanted rows where they are known, and the tuned model's metrics."""
    tasks = (results["task"],)
    found = {}
    if results["selection"]["precision"] is not None:
        found[Measure(WANTED_ROWS, WANTED_ROWS, tasks, 1)] = results["selection"]["precision"]
    for metric, models in results["metrics"].items():
        found[Measure(metric, metric, tasks, direction(metric, results))] = models["tuned"]["mean"]
    return found


def seconds_as_if_built(stage: Mapping[str, Any]) -> float:
    """Seconds of a stage, with what it reused once took."""
    return stage["seconds"] + (seconds_reused(stage) or 0.0)


def costs(results: Mapping[str, Any]) -> dict[str, float]:
    """Seconds, GPU-hours, arithmetic and bytes written, by name.

    What the run reused counts as if it had built it, so that settings compare whatever ran first. GPU-hours are those
    of one device; there are none on a CPU. A cost that older results do not tell is left out.
    """
    stages = results["stages"].values()
    artifacts = [artifact for stage in stages for artifact in stage["artifacts"].values()]
    reused = [artifact for artifact in artifacts if artifact["reused"]]
    seconds = sum(map(seconds_as_if_built, stages))
    found = {SECONDS: seconds}
    if results.get("device", "cpu") != "cpu":
        found[GPU_HOURS] = seconds / 3600
    copied = sum(artifact["copied"]["flops"] for artifact in artifacts if "copied" in artifact)
    found[FLOP] = float(
        sum(stage["flops"] for stage in stages) + sum(artifact["flops"] for artifact in reused) + copied
    )
    if all("bytes" in artifact for artifact in reused):
        written = sum(stage["bytes_written"] for stage in stages)
        found[BYTES] = float(written + sum(artifact["bytes"] for artifact in reused))
    return found


@dataclass(frozen=True)
class Scale:
    """How the values of a column are written.

    Attributes:
        header: the measure's name with the unit.
        factor: what values are multiplied by.
        digits: after the point.
        suffix: behind every value.
    """

    header: str
    factor: float
    digits: int
    suffix: str = ""


def scale_of(measure: Measure, largest: float, *, in_percent: bool) -> Scale:
    """How to write a column.

    Args:
        measure: of the column.
        largest: of its values; decides about the prefix of FLOP and bytes.
        in_percent: write shares as published ones are.
    """
    if measure.name == SECONDS:
        return Scale(SECONDS, 1.0, 0)
    if measure.name == GPU_HOURS:
        return Scale(GPU_HOURS, 1.0, 2)
    if measure.name in (FLOP, BYTES):
        size, prefix = prefix_for(largest)
        unit = "FLOP" if measure.name == FLOP else "B written"
        return Scale(f"{prefix}{unit}", 1 / size, 1)
    if measure.metric == WANTED_ROWS:
        return Scale(measure.name, 100.0, 1, " %")
    if in_percent and measure.is_share:
        return Scale(f"{measure.name} [%]", 100.0, 1)
    return Scale(measure.name, 1.0, 3)
