"""Learning rate over optimizer steps, as in transformers, and its mean over an epoch: LESS's checkpoint weight η̄."""

import math
from collections.abc import Callable, Mapping

SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
    "constant": lambda done: 1.0,
}
"""By name: the share of the peak rate left when a share of the steps after the rise is done."""


def rate_factor(schedule: str, step: int, *, total_steps: int, warmup_steps: int) -> float:
    """Share of the peak rate that an optimizer step uses.

    As with `transformers.get_scheduler`, a rise begins with a rate of 0, and the rate of the last step is above 0.

    Args:
        schedule: name in `SCHEDULES`.
        step: counts from 1.
        total_steps: steps of the run.
        warmup_steps: the linear rise takes the steps up to this one; the next has the peak rate.

    Raises:
        ValueError: ``step`` is outside ``1..total_steps``.
    """
    if not 1 <= step <= total_steps:
        raise ValueError(f"step counts from 1 to {total_steps}, got {step}")
    steps_before = step - 1
    if steps_before < warmup_steps:
        return steps_before / warmup_steps
    return SCHEDULES[schedule]((steps_before - warmup_steps) / (total_steps - warmup_steps))


def warmup_steps(total_steps: int, ratio: float) -> int:
    """Length of the rise, rounded up as the Hugging Face Trainer does."""
    return math.ceil(total_steps * ratio)


def epoch_mean_rates(
    *, schedule: str, learning_rate: float, warmup_ratio: float, epochs: int, steps_per_epoch: int
) -> list[float]:
    """Mean learning rate of each epoch: η̄ of LESS (section 3.2), before normalisation."""
    total = epochs * steps_per_epoch
    rise = warmup_steps(total, warmup_ratio)
    rates = [
        learning_rate * rate_factor(schedule, step, total_steps=total, warmup_steps=rise)
        for step in range(1, total + 1)
    ]
    return [
        math.fsum(rates[epoch * steps_per_epoch : (epoch + 1) * steps_per_epoch]) / steps_per_epoch
        for epoch in range(epochs)
    ]
