"""Charts as shapes for inline SVG; the template draws them, and the table that goes with each."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from lessexp.reports.distributions import Histogram, shares

WIDTH = 360  # that of a phone, so that letters keep their size there
_LEFT, _RIGHT, _TOP, _BOTTOM = 54.0, 12.0, 10.0, 40.0
_HEIGHT = 230
_BAR_ROW = 46  # height of one name with its two bars
_NAME_LETTERS = 42  # of a data set beside its bars


@dataclass(frozen=True)
class Text:
    """A label within a chart; ``anchor`` is SVG's ``text-anchor``."""

    x: float
    y: float
    anchor: str
    content: str


@dataclass(frozen=True)
class Chart:
    """A chart and the numbers in it.

    Attributes:
        name: unique on its page, for ids.
        title: what it shows.
        description: how to read it.
        height: of the drawing, which is `WIDTH` wide.
        paths: pairs of a style's name and SVG path data, drawn in order.
        texts: labels.
        header: of the table of its numbers; empty where the page has another.
        lines: of the table.
    """

    name: str
    title: str
    description: str
    height: int
    paths: list[tuple[str, str]]
    texts: list[Text]
    header: list[str]
    lines: list[list[str]]


def number(value: float | int) -> str:
    """A number with as many digits as tell it from its neighbours in a list."""
    is_large_and_whole = math.isfinite(value) and abs(value) >= 1000 and value == int(value)
    return f"{value:,.0f}" if is_large_and_whole else f"{value:.4g}"


def _boxes(boxes: Sequence[tuple[float, float, float, float]]) -> str:
    return "".join(f"M{x:.1f} {y:.1f}h{width:.1f}v{height:.1f}h{-width:.1f}z" for x, y, width, height in boxes)


def _frame() -> tuple[str, str]:
    return ("axis", f"M{_LEFT} {_TOP}V{_HEIGHT - _BOTTOM}H{WIDTH - _RIGHT}")


def _y_labels(labels: Mapping[float, str]) -> list[Text]:
    """Labels by height within the plot, 0 at its foot and 1 at its top."""
    plot = _HEIGHT - _TOP - _BOTTOM
    return [Text(_LEFT - 5.0, _TOP + plot * (1 - place) + 4, "end", label) for place, label in labels.items()]


def _x_labels(labels: Mapping[float, str], caption: str) -> list[Text]:
    """Labels by place within the plot, 0 at its left end and 1 at its right one, which are in order."""
    plot = WIDTH - _LEFT - _RIGHT
    anchors = ("start", *["middle"] * (len(labels) - 2), "end")
    texts = [
        Text(_LEFT + plot * place, _HEIGHT - _BOTTOM + 15.0, anchor, label)
        for anchor, (place, label) in zip(anchors, labels.items(), strict=True)
    ]
    return [*texts, Text(_LEFT + plot / 2, _HEIGHT - 6.0, "middle", caption)]


def histogram_chart(name: str, title: str, counted: Histogram, *, caption: str) -> Chart:
    """Share of each group's rows in each bin: the first group as filled bars, the second as a line of steps.

    Args:
        name: see `Chart`.
        title: see `Chart`.
        counted: of two groups. All bins are drawn equally wide.
        caption: what the values are, with their unit.
    """
    first, second = counted.counts
    parts = {group: shares(counts) for group, counts in counted.counts.items()}
    top = max(float(max(values.max() for values in parts.values())), 1e-12)
    n_bins = len(counted.edges) - 1
    step = (WIDTH - _LEFT - _RIGHT) / n_bins
    foot = _HEIGHT - _BOTTOM
    heights = {group: values / top * (foot - _TOP) for group, values in parts.items()}
    bars = [(_LEFT + i * step, foot - height, step, height) for i, height in enumerate(heights[first]) if height]
    steps = "".join(f"V{foot - height:.1f}H{_LEFT + (i + 1) * step:.1f}" for i, height in enumerate(heights[second]))
    edges = counted.edges
    return Chart(
        name=name,
        title=title,
        description=f"Histogram of {n_bins} bins from {number(edges[0])} to {number(edges[-1])}: the share of the "
        f"rows of {first} (filled) and of {second} (line) in each. The table below holds its numbers.",
        height=_HEIGHT,
        paths=[("pool", _boxes(bars)), ("selected-line", f"M{_LEFT} {foot}{steps}V{foot}"), _frame()],
        texts=_y_labels({0.0: "0 %", 0.5: f"{50 * top:.3g} %", 1.0: f"{100 * top:.3g} %"})
        + _x_labels({i / n_bins: number(edges[i]) for i in (0, n_bins // 2, n_bins)}, caption),
        header=[caption, first, second],
        lines=[
            [f"{number(low)} to {number(high)}", *(f"{counts[i]:,}" for counts in counted.counts.values())]
            for i, (low, high) in enumerate(itertools.pairwise(edges))
        ],
    )


def _scaled(values: Shaped[np.ndarray, " n"], lowest: float, highest: float, *, start: float, end: float) -> np.ndarray:
    return start + (values - lowest) / (highest - lowest or 1.0) * (end - start)


def points_chart(
    name: str,
    title: str,
    groups: Mapping[str, tuple[Shaped[np.ndarray, " _"], Shaped[np.ndarray, " _"]]],
    *,
    captions: tuple[str, str],
    table: tuple[list[str], list[list[str]]],
    description: str,
) -> Chart:
    """Points of two groups, the first one below; the horizontal axis is logarithmic.

    Args:
        name: see `Chart`.
        title: see `Chart`.
        groups: horizontal values, 0 or above, and finite vertical values of each.
        captions: what the two axes show.
        table: header and lines to go with it.
        description: see `Chart`.
    """
    xs = {group: np.log10(np.maximum(x, 1)) for group, (x, _) in groups.items()}
    every_x = np.concatenate(list(xs.values()))
    every_y = np.concatenate([y for _, y in groups.values()])
    left, right = (float(every_x.min()), float(every_x.max())) if len(every_x) else (0.0, 1.0)
    low, high = (float(every_y.min()), float(every_y.max())) if len(every_y) else (0.0, 1.0)
    paths = []
    for style, (group, (_, y)) in zip(("pool-dots", "selected-dots"), groups.items(), strict=True):
        across = _scaled(xs[group], left, right, start=_LEFT + 4, end=WIDTH - _RIGHT - 4)
        down = _scaled(y, low, high, start=_HEIGHT - _BOTTOM - 4, end=_TOP + 4)
        paths.append((style, "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(across, down, strict=True))))
    labels = {place: number(round(10.0 ** (left + place * (right - left)))) for place in (0.0, 0.5, 1.0)}
    header, lines = table
    return Chart(
        name=name,
        title=title,
        description=description,
        height=_HEIGHT,
        paths=[*paths, _frame()],
        texts=_y_labels({0.0: f"{low:.2g}", 0.5: f"{(low + high) / 2:.2g}", 1.0: f"{high:.2g}"})
        + _x_labels(labels, captions[0]),
        header=header,
        lines=lines,
    )


def bars_chart(name: str, title: str, groups: Mapping[str, tuple[float, float]], *, names: tuple[str, str]) -> Chart:
    """Two bars for each name, of shares between 0 and 1; the page has a table of them beside the chart.

    Args:
        name: see `Chart`.
        title: see `Chart`.
        groups: shares by name, in the order of the bars.
        names: what the two shares are of.
    """
    top = max([share for pair in groups.values() for share in pair], default=0.0) or 1.0
    room = WIDTH - 60
    boxes: list[list[tuple[float, float, float, float]]] = [[], []]
    texts = []
    for i, (label, pair) in enumerate(groups.items()):
        y = float(i * _BAR_ROW)
        shown = label if len(label) <= _NAME_LETTERS else label[: _NAME_LETTERS - 1] + "…"
        texts.append(Text(0.0, y + 13.0, "start", shown))
        for side, share in enumerate(pair):
            width = share / top * room
            boxes[side].append((0.0, y + 18 + 11 * side, width, 9.0))
            texts.append(Text(width + 4, y + 27.0 + 11 * side, "start", f"{share:.1%}"))
    return Chart(
        name=name,
        title=title,
        description=f"For each name two bars: {names[0]} above, {names[1]} below. A table follows with the numbers.",
        height=max(len(groups) * _BAR_ROW, 1),
        paths=[("pool", _boxes(boxes[0])), ("selected", _boxes(boxes[1]))],
        texts=texts,
        header=[],
        lines=[],
    )
