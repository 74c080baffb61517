"""What the benchmarks print."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

_SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def new_table(title: str, *columns: str) -> Table:
    """An empty table: names to the left, numbers to the right."""
    table = Table(title=Text(title), title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    return table


def size_text(n_bytes: float | int) -> str:
    """Bytes with a unit that leaves few digits."""
    for size, unit in _SIZES:
        if n_bytes >= size:
            return f"{n_bytes / size:.2f} {unit}"
    return f"{n_bytes:.0f} B"


def spread_text(figures: Mapping[str, float], name: str, digits: int) -> str:
    """Mean of a figure over seeds, with its standard deviation where there is one."""
    mean = f"{figures[f'{name}_mean']:.{digits}f}"
    return f"{mean} ± {figures[f'{name}_std']:.{digits}f}" if f"{name}_std" in figures else mean


def _value_text(name: str, value: Any) -> str:
    if isinstance(value, Mapping):  # a Timing
        return f"{value['median']:.3g} s [{value['fastest']:.3g}–{value['slowest']:.3g}]"
    if "bytes" in name:
        return size_text(value)
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
