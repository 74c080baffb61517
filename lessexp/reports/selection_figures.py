"""What a selection looks like, as figures: nothing of pyplot is touched, and notebooks show them all the same."""

import io
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lessexp.reports.agreement import spearman

# Two colours of Okabe and Ito's palette, which stay apart for colour-blind readers and in print.
_POOL, _SELECTED = "#56b4e9", "#d55e00"
_BAR = 0.4  # of the distance between two data sets


class ShownFigure(Figure):
    """A figure that a notebook shows without pyplot, which would register it."""

    def _repr_png_(self) -> bytes:
        image = io.BytesIO()
        self.savefig(image, format="png", dpi=100)
        return image.getvalue()


def _panel(height: float | int, **labels: str) -> tuple[ShownFigure, Axes]:
    figure = ShownFigure(figsize=(7, height), layout="constrained")
    axes = figure.subplots()
    axes.set(**labels)
    axes.set_axisbelow(True)
    return figure, axes


def composition_figure(pool: Sequence[str], selected: Sequence[str], *, at_most: int = 25) -> Figure:
    """Share of each data set in the pool and in the selection.

    Args:
        pool: the data set of every row.
        selected: those of the selected rows.
        at_most: data sets with bars of their own, those most selected; the rest are taken together.
    """
    in_pool, in_selection = Counter(pool), Counter(selected)
    names = sorted(in_pool, key=lambda name: (-in_selection[name], -in_pool[name], name))
    groups = [(name, [name]) for name in names[:at_most]]
    if rest := names[at_most:]:
        groups.append((f"{len(rest)} others", rest))
    figure, axes = _panel(1.2 + 0.35 * len(groups), xlabel="share of the rows [%]", title="Data sets")
    places = np.arange(len(groups))
    for label, counts, offset, colour in (
        ("pool", in_pool, -_BAR / 2, _POOL),
        ("selected", in_selection, _BAR / 2, _SELECTED),
    ):
        shares = [100 * sum(counts[name] for name in members) / counts.total() for _, members in groups]
        axes.barh(places + offset, shares, height=_BAR, color=colour, label=label)
    axes.set_yticks(places, [_label(name) for name, _ in groups])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.legend()
    return figure


def _label(name: str, *, n_characters: int = 40) -> str:
    shortened = name if len(name) <= n_characters else f"{name[: n_characters - 1]}…"
    return shortened.replace("$", r"\$")  # which would start a formula


def score_figure(scores: Sequence[float], is_selected: Sequence[bool], *, n_bins: int = 40) -> Figure:
    """How many rows have which score: all of them, and the selected ones in front.

    Args:
        scores: of every scored row.
        is_selected: for each of them.
        n_bins: of equal width.
    """
    values, chosen = np.asarray(scores), np.asarray(is_selected, dtype=bool)
    figure, axes = _panel(4, xlabel="score", ylabel="rows", title="Scores")
    edges = np.histogram_bin_edges(values, bins=n_bins)
    for label, shown, colour in (("pool", values, _POOL), ("selected", values[chosen], _SELECTED)):
        counts, _ = np.histogram(shown, bins=edges)
        axes.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=colour, label=label)
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    return figure


def length_figure(lengths: Sequence[int], scores: Sequence[float], is_selected: Sequence[bool]) -> Figure:
    """Score against the length of the answer, with their rank correlation: does a selector just take long rows?

    Args:
        lengths: characters of what the assistant says, for every scored row.
        scores: of these rows.
        is_selected: for each of them.
    """
    values, sizes, chosen = np.asarray(scores), np.asarray(lengths, dtype=float), np.asarray(is_selected, dtype=bool)
    correlation = spearman(torch.from_numpy(values), torch.from_numpy(sizes)) if len(values) > 1 else math.nan
    found = "undefined" if math.isnan(correlation) else f"{correlation:.2f}"
    title = f"Scores and lengths: Spearman correlation {found}"
    figure, axes = _panel(4, xlabel="length of the answer [characters]", ylabel="score", title=title)
    for label, shown, colour, marker in (("pool", ~chosen, _POOL, "o"), ("selected", chosen, _SELECTED, "^")):
        places = sizes[shown].clip(min=1)  # an empty answer has no place on a logarithmic axis
        axes.scatter(places, values[shown], s=12, color=colour, marker=marker, alpha=0.6, label=label)
    axes.set_xscale("log")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
