"""How far figures of a few seeds can be trusted: spread, intervals, and whether one setting is really ahead."""

import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import stdtrit

from lessexp.evaluation.bootstrap import bootstrap
from lessexp.reports.tables import figure

CONFIDENCE = 0.95
MIN_SEEDS_OF_INTERVAL = 3
_RESAMPLES = 10_000


def with_spread(values: Sequence[float], digits: int) -> str:
    """Mean, and the sample standard deviation (n - 1 in the denominator) where there are several values."""
    form = f".{digits}f"
    mean = figure(statistics.mean(values), form)
    if len(values) == 1 or not all(map(math.isfinite, values)):
        return mean
    return f"{mean} ± {statistics.stdev(values):{form}}"


def interval_over_seeds(values: Sequence[float]) -> tuple[float, float]:
    """Where the mean could lie with other seeds and the same test rows: percentile bootstrap over the seeds.

    It is rough: with three or four seeds it reaches from the lowest to the highest or little less.
    """
    column = np.array(values, dtype=np.float64)[:, None]
    found = bootstrap({"seeds": column}, n_resamples=_RESAMPLES, confidence=CONFIDENCE, seed=0)
    low, high = found.mean[0].tolist()
    return low, high


def exceeds_noise(first: Mapping[int, float], second: Mapping[int, float]) -> bool:
    """Whether the means of two settings differ by more than the seeds explain, at 95 % confidence.

    Where both ran with the same seeds, by Student's t interval of the differences seed by seed; otherwise by Welch's
    interval. A single run tells nothing of its noise, so nothing exceeds it.

    Args:
        first: value by seed.
        second: value by seed.
    """
    if min(len(first), len(second)) < 2:
        return False
    difference = statistics.mean(first.values()) - statistics.mean(second.values())
    if first.keys() == second.keys():
        error = statistics.stdev(first[seed] - second[seed] for seed in first) / math.sqrt(len(first))
        freedom: float = len(first) - 1
    else:
        shares = [statistics.variance(values.values()) / len(values) for values in (first, second)]
        error = math.sqrt(sum(shares))
        terms = (share**2 / (len(values) - 1) for share, values in zip(shares, (first, second), strict=True))
        freedom = sum(shares) ** 2 / sum(terms) if error else 1.0
    return abs(difference) > float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error


def clear_best(settings: Mapping[str, Mapping[int, float]], direction: int) -> str | None:
    """The setting that is ahead of every other by more than the noise, if there is one.

    Args:
        settings: value by seed, by name of the setting.
        direction: of the measure; 0 has no best.
    """
    if direction == 0 or len(settings) < 2:
        return None
    best = max(settings, key=lambda name: direction * statistics.mean(settings[name].values()))
    others = (values for name, values in settings.items() if name != best)
    return best if all(exceeds_noise(settings[best], values) for values in others) else None
