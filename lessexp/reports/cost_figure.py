"""A figure against its cost."""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from lessexp.reports.figure_style import COLOURS, MARKERS, measure_label, new_figure, nth, spans_decades, spread
from lessexp.reports.measures import Measure, scale_of
from lessexp.reports.settings import Setting

_MARK = 5  # pixels from the middle of a point to its edge
_NEAR = 16  # points from a label to its mark, below which no line joins them


@dataclass(frozen=True)
class _Point:
    label: str
    colour: str
    x: float
    y: float
    x_spread: float
    y_spread: float

    def covers(self, axes: Axes) -> list[Bbox]:
        """Where its marker and its bars are [pixels]."""
        x, y = axes.transData.transform((self.x, self.y))
        (left, low), (right, high) = axes.transData.transform(
            [
                (self.x - self.x_spread, self.y - self.y_spread),
                (self.x + self.x_spread, self.y + self.y_spread),
            ]
        )
        return [
            Bbox.from_extents(x - _MARK, y - _MARK, x + _MARK, y + _MARK),
            Bbox.from_extents(left, y - 1, right, y + 1),
            Bbox.from_extents(x - 1, low, x + 1, high),
        ]


def against_cost(settings: Sequence[Setting], measure: Measure, cost: Measure) -> Figure:
    """A figure against what it cost, a labelled point for each setting; bars are standard deviations over seeds."""
    figure = new_figure()
    FigureCanvasAgg(figure)  # measures the labels
    axes = figure.subplots()
    shown = [setting for setting in settings if {measure, cost} <= setting.values.keys()]
    scale = scale_of(cost, max(statistics.mean(setting.values[cost].values()) for setting in shown), in_percent=False)
    points = []
    for index, setting in enumerate(shown):
        spent = [scale.factor * value for value in setting.values[cost].values()]
        reached = list(setting.values[measure].values())
        colour, marker = nth(COLOURS, index), nth(MARKERS, index)
        point = _Point(
            setting.label, colour, statistics.mean(spent), statistics.mean(reached), spread(spent), spread(reached)
        )
        bars = {"xerr": point.x_spread, "yerr": point.y_spread}
        axes.errorbar(point.x, point.y, **bars, color=colour, marker=marker, markersize=6, capsize=2, linewidth=1)
        points.append(point)
    if spans_decades([point.x - point.x_spread for point in points]):
        axes.set_xscale("log")
    axes.margins(0.12)
    axes.set(xlabel=f"cost [{scale.header}]", ylabel=measure_label(measure))
    axes.grid(alpha=0.3)
    _write_labels(axes, points)
    return figure


def _write_labels(axes: Axes, points: Sequence[_Point]) -> None:
    """Write each label at the first place beside its point where it covers no other label, point or bar."""
    figure = axes.get_figure()
    figure.draw_without_rendering()  # places are known only now
    taken = [box for point in points for box in point.covers(axes)]
    inside = axes.get_window_extent()
    for point in points:
        for offset in _offsets():
            text = _annotate(axes, point, offset)
            text.update_positions(figure.canvas.get_renderer())
            box = Text.get_window_extent(text)  # without the line to its point
            whole = inside.x0 < box.x0 and box.x1 < inside.x1 and inside.y0 < box.y0 and box.y1 < inside.y1
            if whole and not any(box.overlaps(other) for other in taken):
                break
            text.remove()
        else:
            _annotate(axes, point, next(_offsets()))
        taken.append(box)


def _annotate(axes: Axes, point: _Point, offset: tuple[float, float]) -> Annotation:
    joined = {"arrowstyle": "-", "color": point.colour, "linewidth": 0.5}
    return axes.annotate(
        point.label,
        (point.x, point.y),
        offset,
        textcoords="offset points",
        fontsize="small",
        color=point.colour,
        horizontalalignment="left" if offset[0] > 0 else "right",
        verticalalignment="center",
        arrowprops=joined if math.hypot(*offset) >= _NEAR else None,
    )


def _offsets() -> Iterator[tuple[float, float]]:
    for distance in (8, 16, 28, 42, 60):
        for angle in (20, 160, -20, -160, 55, 125, -55, -125):
            yield distance * math.cos(math.radians(angle)), distance * math.sin(math.radians(angle))
