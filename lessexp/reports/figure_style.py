"""How figures of a sweep look: readable in grey, by colour-blind readers and in the width of a paper's column."""

import statistics
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from lessexp.reports.measures import WANTED_ROWS, Measure

# After Okabe and Ito's colours, which colour-blind readers tell apart, the light ones darker so that text can be read.
COLOURS = ("#0072B2", "#C04F00", "#007A5A", "#A84F82", "#000000", "#8F5F00", "#2878A6")
DASHES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
_NAMES = {WANTED_ROWS: "share of wanted rows", "answer_nll": "answer NLL [nats a token]"}


def nth(styles: Sequence[Any], index: int) -> Any:
    """One of the styles, from the first again where they run out."""
    return styles[index % len(styles)]


def new_figure() -> Figure:
    """An empty figure; it belongs to no window and no global state."""
    return Figure(figsize=(4.8, 3.4), layout="constrained")


def spread(values: Sequence[float]) -> float:
    """Sample standard deviation, 0 of a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def spans_decades(values: Sequence[float]) -> bool:
    """Whether only a logarithmic axis keeps the low values apart."""
    return min(values) > 0 and max(values) > 10 * min(values)


def measure_label(measure: Measure) -> str:
    """What an axis says of a figure."""
    name = _NAMES.get(measure.name, measure.name)
    if measure.tasks and measure.name not in (measure.metric, WANTED_ROWS):
        name = f"{measure.name} ({measure.metric})"
    return f"{name}, low is good" if measure.direction < 0 else name
