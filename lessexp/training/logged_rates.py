"""Mean learning rates between checkpoints, from what another trainer logged and its optimizers say."""

import math
from collections.abc import Mapping, Sequence

import numpy as np


def mean_logged_rates(
    steps: Sequence[int], *, logged: Mapping[int, float], next_rates: Sequence[float]
) -> tuple[list[float], list[int]]:
    """Mean rate over the steps since the checkpoint before: η̄ of LESS, before normalisation.

    Between the steps whose rate is known it is interpolated linearly, before the first and after the last it
    is taken as constant. Known are the logged rates, and the one that each checkpoint's optimizer held, which
    the scheduler had set for the step to come.

    Releases of transformers differ in whether they log the rate of the step just taken or of the one to come. They
    log the latter where a checkpoint's own step is logged with its optimizer's rate; then the log is moved by one.

    Args:
        steps: optimizer steps at which the checkpoints were written, ascending.
        logged: rate by the step at which it was logged.
        next_rates: of each checkpoint's optimizer.

    Returns:
        The rates, and the places of the checkpoints in whose span of steps none is logged.
    """
    known = {step + 1: rate for step, rate in zip(steps, next_rates, strict=True)}
    compared = [math.isclose(logged[step], known[step + 1]) for step in steps if step in logged]
    ahead = 1 if compared and all(compared) else 0
    known |= {step + ahead: rate for step, rate in logged.items()}
    at = sorted(known)
    rates, unlogged = [], []
    for place, (before, step) in enumerate(zip([0, *steps[:-1]], steps, strict=True)):
        span = range(before + 1, step + 1)
        rates.append(float(np.interp(span, at, [known[known_at] for known_at in at]).mean()))
        if not any(logged_at in span for logged_at in logged):
            unlogged.append(place)
    return rates, unlogged
