import pytest

from lessexp.training.logged_rates import mean_logged_rates

TOTAL, RISE = 24, 6
# The Trainer's linear schedule: zero at the first step, and the next zero would be the step after the last.
RATES_AFTER = {step: min((step - 1) / RISE, (TOTAL + 1 - step) / (TOTAL - RISE)) for step in range(1, TOTAL + 2)}
RATES = {step: rate for step, rate in RATES_AFTER.items() if step <= TOTAL}
STEPS = [6, 12, 18, 24]


def means(steps=STEPS):
    return [
        sum(RATES[step] for step in range(before + 1, last + 1)) / (last - before)
        for before, last in zip([0, *steps[:-1]], steps, strict=True)
    ]


def next_rates(steps=STEPS):
    return [RATES_AFTER[step + 1] for step in steps]


def test_rates_logged_at_every_step_are_averaged_as_they_are():
    rates, unlogged = mean_logged_rates(STEPS, logged=RATES, next_rates=next_rates())
    assert rates == pytest.approx(means(), rel=1e-12)
    assert unlogged == []


@pytest.mark.parametrize("every", [2, 3, 5])
def test_steps_between_logged_ones_are_interpolated(every):
    logged = {step: rate for step, rate in RATES.items() if step % every == 0 or step == 1}
    rates, unlogged = mean_logged_rates(STEPS, logged=logged, next_rates=next_rates())
    # Two straight lines that meet at a peak whose rate the first checkpoint's optimizer holds.
    assert rates == pytest.approx(means(), rel=1e-9)
    assert unlogged == []


def test_a_log_of_the_rate_to_come_is_moved_to_the_step_that_took_it():
    ahead = {step: RATES_AFTER[step + 1] for step in RATES}
    rates, _ = mean_logged_rates(STEPS, logged=ahead, next_rates=next_rates())
    assert rates[1:] == pytest.approx(means()[1:], rel=1e-12)
    assert rates[0] == pytest.approx(means()[0] + (RATES[2] - RATES[1]) / 6)  # the first step's is in no log


def test_without_a_log_the_optimizers_rates_are_what_is_known():
    rates, unlogged = mean_logged_rates(STEPS, logged={}, next_rates=next_rates())
    assert unlogged == [0, 1, 2, 3]
    assert rates[1:] == pytest.approx(means()[1:], rel=1e-9)
    assert rates[0] == RATES[7]  # nothing says how it rose
    assert mean_logged_rates([5], logged={}, next_rates=[0.25]) == ([0.25], [0])
    assert mean_logged_rates(STEPS, logged={3: 0.5, 20: 0.2}, next_rates=next_rates())[1] == [1, 2]
