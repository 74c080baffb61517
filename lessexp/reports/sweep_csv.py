"""The numbers behind a sweep's table, unrounded, as comma-separated values."""

import csv
import io
import statistics
from collections.abc import Sequence
from typing import Any

from lessexp.reports.measures import Measure
from lessexp.reports.published import Published
from lessexp.reports.runs import SweepRun
from lessexp.reports.settings import Setting, measures_of, settings_of
from lessexp.reports.sweep_table import best_labels, published_beside


def sweep_csv(runs: Sequence[SweepRun], *, unconfirmed: bool = False) -> str:
    """One line for each setting and figure.

    All shares, published ones too, are between 0 and 1. ``low`` and ``high`` are the ends of the bootstrap interval
    over what ``interval_over`` says.

    Args:
        runs: of one code and of the same data.
        unconfirmed: give published numbers too that no independent source has.

    Raises:
        SweepError: as `settings_of`.
    """
    settings = settings_of(runs)
    published = published_beside(settings, unconfirmed=unconfirmed)
    varied = list(dict.fromkeys(key for setting in settings for key in setting.varied))
    lines = [
        _named(setting, varied)
        | _figures(setting, measure, best_labels(settings, measure))
        | _beside(setting, measure, published.get((setting.label, measure)), unconfirmed)
        for setting in settings
        for measure in measures_of(settings)
        if measure in setting.values
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _named(setting: Setting, varied: Sequence[str]) -> dict[str, Any]:
    results = setting.results
    names = {"setting": setting.label, **{name: results[name] for name in ("selector", "model", "fraction")}}
    return names | {key: setting.varied.get(key, "") for key in varied if key not in names}


def _figures(setting: Setting, measure: Measure, best: set[str]) -> dict[str, Any]:
    by_seed = setting.values[measure]
    values = list(by_seed.values())
    interval = setting.interval(measure)
    (low, high), over = interval if interval else (("", ""), "")
    untrained = setting.untrained.get(measure)
    return {
        "figure": measure.name,
        "metric": measure.metric,
        "n": len(values),
        "seeds": " ".join(map(str, by_seed)),
        "mean": statistics.mean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else "",
        "low": low,
        "high": high,
        "interval_over": over,
        "best": setting.label in best,
        "untrained": statistics.mean(untrained.values()) if untrained else "",
    }


def _beside(setting: Setting, measure: Measure, number: Published | None, unconfirmed: bool) -> dict[str, Any]:
    if number is None:
        return dict.fromkeys(("published", "published_sd", "published_confirmed", "published_source", "difference"), "")
    sd = number.shown_sd(unconfirmed=unconfirmed)
    return {
        "published": number.value / 100,
        "published_sd": "" if sd is None else sd / 100,
        "published_confirmed": number.confirmed,
        "published_source": number.source,
        "difference": statistics.mean(setting.values[measure].values()) - number.value / 100,
    }
