"""What a run prints at its end."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def prefix_for(value: float | int) -> tuple[float, str]:
    """Size and letter of the prefix that leaves few digits; 1 and none below a thousand."""
    return next(((size, prefix) for size, prefix in _UNITS if value >= size), (1.0, ""))


def with_unit(value: float | int, unit: str) -> str:
    """A quantity with the prefix that leaves few digits."""
    size, prefix = prefix_for(value)
    return f"{value / size:.1f} {prefix}{unit}" if prefix else f"{value:.0f} {unit}"


def figure(value: float, form: str = ".3f") -> str:
    """A number of a table; older runs may hold some that are none."""
    return format(value, form) if math.isfinite(value) else "not finite"


def new_table(title: str, *columns: str) -> Table:
    """An empty table: names to the left, numbers to the right."""
    table = Table(title=Text(title), title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if index == 0 else "right", no_wrap=True)
    return table


def _with_change(base: float, tuned: float) -> list[str]:
    return [figure(base), figure(tuned), figure(tuned - base, "+.3f")]


def metric_table(results: Mapping[str, Any]) -> Table:
    """Base against tuned model, metric by metric and subtask by subtask."""
    title = "Held-out rows" if results["held_out"] else "The target rows themselves (nothing was held out)"
    table = new_table(title, "", "base", "tuned", "change")
    for metric, models in results["metrics"].items():
        if "mean_of_rows" in models["base"] and len(models["base"]["by_subtask"]) > 1:  # older runs have none
            base, tuned = (models[model]["mean_of_rows"] for model in ("base", "tuned"))
            table.add_row(Text(f"{metric}, mean of rows"), *_with_change(base, tuned))
        for subtask in [*models["base"]["by_subtask"], None]:
            base, tuned = (
                models[model]["mean"] if subtask is None else models[model]["by_subtask"][subtask]
                for model in ("base", "tuned")
            )
            name = f"{metric}, mean of subtasks" if subtask is None else f"  {metric}, {subtask}"
            table.add_row(
                Text(name),
                *_with_change(base, tuned),
                style="bold" if subtask is None else None,
                end_section=subtask is None,
            )
    return table


def interval_table(results: Mapping[str, Any]) -> Table:
    """Bootstrap intervals of the means of subtasks; those of single subtasks are in ``results.json``."""
    table = new_table("Intervals of the means (bootstrap over rows)", "", "base", "tuned", "change")
    for metric, models in results["metrics"].items():
        ends = (models[model]["interval"] for model in ("base", "tuned", "change"))
        table.add_row(Text(metric), *(f"{figure(low)} to {figure(high)}" for low, high in ends))
    return table


COMPOSITION_HEADER = ["", "pool", "selected", "enrichment"]


def composition_lines(selection: Mapping[str, Any]) -> list[list[str]]:
    """Share of each data set in the pool and in the selection, largest share of the selection first."""
    by_selected = sorted(selection["by_dataset"].items(), key=lambda item: -item[1]["selected"])
    return [
        [
            f"{dataset} (wanted)" if share["wanted"] else dataset,
            f"{share['pool']:.1%}",
            f"{share['selected']:.1%}",
            f"{share['selected'] / share['pool']:.1f}×",
        ]
        for dataset, share in by_selected
    ]


def composition_table(selection: Mapping[str, Any]) -> Table:
    """`composition_lines`, the wanted data sets in bold."""
    table = new_table("Data sets", *COMPOSITION_HEADER)
    for line in composition_lines(selection):
        table.add_row(Text(line[0]), *line[1:], style="bold" if line[0].endswith(" (wanted)") else None)
    return table


def seconds_reused(stage: Mapping[str, Any]) -> float | None:
    """What the artifacts that a stage reused, and rows that it copied from others, once took; ``None`` for neither."""
    artifacts = stage["artifacts"].values()
    seconds = [artifact["built_in_seconds"] for artifact in artifacts if artifact["reused"]]
    seconds += [artifact["copied"]["seconds"] for artifact in artifacts if "copied" in artifact]
    return sum(seconds) if seconds else None


COST_HEADER = ["stage", "seconds", "peak memory", "written", "arithmetic", "reused"]


def cost_lines(stages: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Seconds, memory, disk and arithmetic of each stage of this run, and what it reused once took.

    The last line is for all stages.
    """
    lines = [
        [
            name,
            f"{stage['seconds']:.1f}",
            with_unit(stage["peak_memory_bytes"], "B"),
            with_unit(stage["bytes_written"], "B"),
            with_unit(stage["flops"], "FLOP"),
            "" if (seconds := seconds_reused(stage)) is None else f"{seconds:.0f} s",
        ]
        for name, stage in stages.items()
    ]
    everything = [
        "all",
        f"{sum(stage['seconds'] for stage in stages.values()):.1f}",
        with_unit(max(stage["peak_memory_bytes"] for stage in stages.values()), "B"),
        with_unit(sum(stage["bytes_written"] for stage in stages.values()), "B"),
        with_unit(sum(stage["flops"] for stage in stages.values()), "FLOP"),
        "",
    ]
    return [*lines, everything]


def cost_table(stages: Mapping[str, Mapping[str, Any]]) -> Table:
    """`cost_lines` for a terminal."""
    table = new_table("Cost", *COST_HEADER)
    *lines, everything = cost_lines(stages)
    for line in lines:
        table.add_row(*line)
    table.add_section()
    table.add_row(*everything)
    return table


def report_tables(results: Mapping[str, Any]) -> Iterator[Table | str]:
    """All that a finished run shows, in order."""
    selection = results["selection"]
    yield composition_table(selection)
    if selection["precision"] is not None:
        yield (
            f"{selection['precision']:.1%} of the {selection['n_selected']} selected rows are of a wanted data set; "
            f"random choice would give {selection['pool_share']:.1%}"
        )
    if results["metrics"]:
        yield metric_table(results)
    if results["metrics"] and all(
        "interval" in models["base"] for models in results["metrics"].values()
    ):  # older runs have none
        yield interval_table(results)
    yield cost_table(results["stages"])
