"""Timing of alternatives side by side: machines are shared, so only ratios within one run mean anything."""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

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


def _run_and_report(run: Callable[..., None], arguments: tuple, connection) -> None:
    with measure() as cost:
        run(*arguments)
    connection.send(cost.peak_memory_bytes)


def peak_memory_bytes(run: Callable[..., None], *arguments) -> int:
    """Largest resident memory of a fresh process that does nothing but ``run(*arguments)``.

    Raises:
        ChildProcessError: the process failed.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run_and_report, args=(run, arguments, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise ChildProcessError(f"measuring the memory of {run.__name__} failed, see above") from None
    finally:
        process.join()
