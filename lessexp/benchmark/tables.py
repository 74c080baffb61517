"""What the benchmarks print."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from lessexp.reports.tables import new_table, with_unit


def spread_text(figures: Mapping[str, Any], name: str, digits: int) -> str:
    """Mean of a figure over seeds, with its standard deviation where there is one."""
    mean = f"{figures[f'{name}_mean']:.{digits}f}"
    return f"{mean} ± {figures[f'{name}_std']:.{digits}f}" if f"{name}_std" in figures else mean


def _value_text(name: str, value: Any) -> str:
    if isinstance(value, Mapping):  # a Timing
        return f"{value['median']:.3g} s [{value['fastest']:.3g}–{value['slowest']:.3g}]"
    if "bytes" in name:
        return with_unit(value, "B")
    if name.startswith("seconds"):
        return f"{value:.3g} s"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _named_values(results: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in results.items():
        if isinstance(value, Mapping) and "median" not in value:
            for part, figure in value.items():
                yield f"{name}.{part}", figure
        else:
            yield name, value


def figures_table(title: str, results: Mapping[str, Any]) -> Table:
    """Every figure of a speed benchmark by its name in the JSON file; seconds as median [fastest-slowest]."""
    table = new_table(title, "", "")
    table.show_header = False
    previous = ""
    for name, value in _named_values(results):
        group = name.partition(".")[0]
        if group.startswith("seconds") and group != previous:
            table.add_section()
        table.add_row(Text(name), _value_text(name, value))
        previous = group
    return table
