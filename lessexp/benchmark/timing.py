"""Timing of alternatives side by side: machines are shared, so only ratios within one run mean anything."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lessexp.benchmark.fresh_process import in_fresh_process
from lessexp.stages.cost import measure


@dataclass(frozen=True)
class Timing:
    """Seconds of repeated runs of one thing."""

    median: float
    fastest: float
    slowest: float


def time_in_turns(alternatives: Mapping[str, Callable[[], None]], *, repeats: int) -> dict[str, Timing]:
    """Run every alternative once to warm up, then all of them in turns, so that noise hits them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in alternatives}
    for turn in range(repeats + 1):
        for name, run in alternatives.items():
            started = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return {name: Timing(statistics.median(found), min(found), max(found)) for name, found in seconds.items()}


def _peak_of(run: Callable[..., None], arguments: tuple) -> int:
    with measure() as cost:
        run(*arguments)
    return cost.peak_memory_bytes


def peak_memory_bytes(run: Callable[..., None], *arguments) -> int:
    """Largest resident memory of a fresh process that does nothing but ``run(*arguments)``.

    Raises:
        ChildProcessError: the process failed.
    """
    return in_fresh_process(_peak_of, run, arguments)
