"""Learning rate over optimizer steps, and its mean over an epoch: LESS's checkpoint weight η̄."""

import math


def linear_factor(step: int, *, total_steps: int, warmup_steps: int) -> float:
    """Share of the peak rate that optimizer step ``step`` uses: a linear rise, then a linear fall to 0.

    Args:
        step: counts from 1.
        total_steps: the rate reaches zero here.
        warmup_steps: the rate peaks here.

    Raises:
        ValueError: ``step`` is outside ``1..total_steps``.
    """
    if not 1 <= step <= total_steps:
        raise ValueError(f"step counts from 1 to {total_steps}, got {step}")
    if step < warmup_steps:
        return step / warmup_steps
    if total_steps == warmup_steps:
        return 1.0
    return (total_steps - step) / (total_steps - warmup_steps)


def constant_factor(step: int, *, total_steps: int, warmup_steps: int) -> float:
    """Share of the peak rate with no decay after the rise; arguments and errors of `linear_factor`."""
    if not 1 <= step <= total_steps:
        raise ValueError(f"step counts from 1 to {total_steps}, got {step}")
    return min(1.0, step / max(warmup_steps, 1))


SCHEDULES = {"linear": linear_factor, "constant": constant_factor}


def warmup_steps(total_steps: int, ratio: float) -> int:
    """Length of the rise, rounded up as the Hugging Face Trainer does."""
    return math.ceil(total_steps * ratio)


def epoch_mean_rates(
    *, schedule: str, learning_rate: float, warmup_ratio: float, epochs: int, steps_per_epoch: int
) -> list[float]:
    """Mean learning rate of each epoch: η̄ of LESS (section 3.2), before normalisation."""
    total = epochs * steps_per_epoch
    factor = SCHEDULES[schedule]
    rise = warmup_steps(total, warmup_ratio)
    rates = [learning_rate * factor(step, total_steps=total, warmup_steps=rise) for step in range(1, total + 1)]
    return [
        math.fsum(rates[epoch * steps_per_epoch : (epoch + 1) * steps_per_epoch]) / steps_per_epoch
        for epoch in range(epochs)
    ]
