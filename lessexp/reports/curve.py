"""An ablation curve: a figure against a swept number."""

import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lessexp.reports.figure_style import COLOURS, DASHES, MARKERS, measure_label, new_figure, nth, spans_decades, spread
from lessexp.reports.measures import Measure
from lessexp.reports.settings import Setting

_KEY_NAMES = {
    "proj_dim": "projection dimension d",
    "fraction": "selected share of the pool",
    "warmup.fraction": "share of the pool in the warm-up",
    "warmup.checkpoints": "number of checkpoints",
    "warmup.training.epochs": "epochs of the warm-up",
    "lora.rank": "rank r of the adapter",
    "datastore.dtype": "bits of a stored coordinate",
    "pool_sample.n_rows": "rows of the pool",
}
_MOST_TICKS = 10


def swept_number(key: str, value: str) -> float | None:
    """The number that a setting stands for in a curve, if it is one.

    Args:
        key: of the setting; lists of checkpoints count by their length, types of stored numbers by their bits.
        value: as the command line had it.
    """
    if key == "datastore.dtype":
        bits = re.search(r"\d+$", value)
        return float(bits[0]) if bits else None
    parsed: Any = yaml.safe_load(value)
    if key == "warmup.checkpoints" and isinstance(parsed, list):
        return float(len(parsed))
    try:  # YAML takes 1e-5 for text
        return None if isinstance(parsed, bool) else float(parsed)
    except (TypeError, ValueError):
        return None


def swept_keys(settings: Sequence[Setting]) -> list[str]:
    """Settings with two or more numbers to draw a curve over."""
    keys = dict.fromkeys(key for setting in settings for key in setting.varied)
    return [
        key for key in keys if len({number for setting in settings if (number := _at(setting, key)) is not None}) > 1
    ]


def _at(setting: Setting, key: str) -> float | None:
    if key not in setting.varied:
        return None
    if key == "warmup.checkpoints" and setting.varied[key] == "null":  # all that there are
        stores = setting.results["stages"].get("gradients", {}).get("artifacts", {})
        n_checkpoints = stores.get("pool_gradients", {}).get("n_checkpoints")
        return None if n_checkpoints is None else float(n_checkpoints)
    return swept_number(key, setting.varied[key])


def ablation_curve(settings: Sequence[Setting], measure: Measure, key: str) -> Figure:
    """A figure against a swept number, a line for each choice of all other settings.

    Bands are standard deviations over seeds, and over settings of the same number, such as one checkpoint or another.
    Horizontal lines are settings without that number, and the untrained
    model.

    Args:
        settings: two or more of them have the figure and different numbers.
        measure: the figure.
        key: of the number.
    """
    figure = new_figure()
    axes = figure.subplots()
    lines: dict[str, dict[float, list[float]]] = {}
    level: dict[str, list[float]] = {}
    for setting in settings:
        if measure in setting.values:
            values = list(setting.values[measure].values())
            place, name = _at(setting, key), _name_without(setting, key)
            if place is None:
                level[f"{name} {key}={setting.varied[key]}" if key in setting.varied else name] = values
            else:
                lines.setdefault(name, {}).setdefault(place, []).extend(values)
    for index, (name, points) in enumerate(lines.items()):
        _draw_line(axes, index, name, points)
    for index, (name, values) in enumerate(level.items(), start=len(lines)):
        _draw_level(axes, index, name, values)
    _draw_untrained(axes, settings, measure)
    places = sorted({place for points in lines.values() for place in points})
    if spans_decades(places):
        axes.set_xscale("log")
    if len(places) <= _MOST_TICKS:
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.minorticks_off()
    axes.set(xlabel=_KEY_NAMES.get(key, key), ylabel=measure_label(measure))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def _name_without(setting: Setting, key: str) -> str:
    others = (f"{name}={value}" for name, value in setting.varied.items() if name != key)
    return " ".join([setting.results["selector"], *others])


def _draw_line(axes: Axes, index: int, name: str, points: Mapping[float, Sequence[float]]) -> None:
    places = sorted(points)
    means = [statistics.mean(points[place]) for place in places]
    bands = [spread(points[place]) for place in places]
    ends = [[mean + sign * band for mean, band in zip(means, bands, strict=True)] for sign in (-1, 1)]
    style = {"color": nth(COLOURS, index), "linestyle": nth(DASHES, index)}
    axes.plot(places, means, marker=nth(MARKERS, index), markersize=5, label=name, **style)
    axes.fill_between(places, *ends, color=style["color"], alpha=0.2, linewidth=0)


def _draw_level(axes: Axes, index: int, name: str, values: Sequence[float]) -> None:
    mean, band = statistics.mean(values), spread(values)
    colour, dashes = nth(COLOURS, index), nth(DASHES, index)
    axes.axhline(mean, linewidth=1.2, label=name, color=colour, linestyle=dashes)
    axes.axhspan(mean - band, mean + band, color=colour, alpha=0.12, linewidth=0)


def _draw_untrained(axes: Axes, settings: Sequence[Setting], measure: Measure) -> None:
    by_model: dict[str, list[float]] = {}
    for setting in settings:
        by_model.setdefault(setting.results["model"], []).extend(setting.untrained.get(measure, {}).values())
    for model, values in by_model.items():
        if values:
            name = "untrained" if len(by_model) == 1 else f"untrained {model}"
            axes.axhline(statistics.mean(values), color="grey", linestyle=":", linewidth=1.2, label=name)
