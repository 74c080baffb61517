import pytest
import torch
from transformers import get_scheduler

from lessexp.training.schedule import SCHEDULES, epoch_mean_rates, rate_factor, warmup_steps

# Released run of the paper: mean learning rates of its four checkpoints (princeton-nlp/LESS).
RELEASED_RATES = [1.6877e-05, 1.2859e-05, 7.7030e-06, 2.5616e-06]


def rates_in_transformers(schedule, *, total_steps, warmup_steps):
    """What an optimizer under transformers' scheduler holds at each step, with a peak of 1."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    name = {"constant": "constant_with_warmup"}.get(schedule, schedule)
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=warmup_steps, num_training_steps=total_steps)
    rates = []
    for _ in range(total_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("total_steps", [1, 2, 3, 10, 24, 420])
@pytest.mark.parametrize("ratio", [0.0, 0.03, 0.5, 1.0])
def test_every_step_has_the_rate_that_transformers_gives_it(schedule, total_steps, ratio):
    rise = warmup_steps(total_steps, ratio)
    found = [
        rate_factor(schedule, step, total_steps=total_steps, warmup_steps=rise) for step in range(1, total_steps + 1)
    ]
    assert found == pytest.approx(rates_in_transformers(schedule, total_steps=total_steps, warmup_steps=rise))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_last_step_trains_and_the_first_without_a_rise_has_the_peak_rate(schedule):
    for total in (1, 2, 24):
        assert rate_factor(schedule, 1, total_steps=total, warmup_steps=0) == 1
        assert rate_factor(schedule, total, total_steps=total, warmup_steps=0) > 0


@pytest.mark.parametrize(
    ("steps_per_epoch", "weights"),
    [(6, [0.380, 0.337, 0.207, 0.076]), (106, [0.4179, 0.3230, 0.1940, 0.0651])],
)
def test_weights_of_checkpoints_are_those_of_the_rates_their_epochs_used(steps_per_epoch, weights):
    rates = epoch_mean_rates(
        schedule="linear", learning_rate=2e-5, warmup_ratio=0.03, epochs=4, steps_per_epoch=steps_per_epoch
    )
    digits = 5e-5 if steps_per_epoch == 106 else 5e-4  # as they are rounded above
    assert [rate / sum(rates) for rate in rates] == pytest.approx(weights, abs=digits)


def test_mean_rates_of_the_released_run_are_those_of_its_log():
    total, rise = 420, warmup_steps(420, 0.03)
    # Its release of transformers logged at each step the rate of the next one, 0 after the last.
    logged = [2e-5 * rate_factor("linear", step + 1, total_steps=total, warmup_steps=rise) for step in range(1, total)]
    logged.append(0.0)
    means = [sum(logged[start : start + 105]) / 105 for start in range(0, total, 105)]
    assert means == pytest.approx(RELEASED_RATES, rel=5e-3)  # its epochs had 105, 106, 106 and 103 steps


def test_the_rise_is_rounded_up():
    assert warmup_steps(420, 0.03) == 13
    assert warmup_steps(100, 0.0) == 0


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("step", [0, 11])
def test_a_step_outside_the_run_is_refused(schedule, step):
    with pytest.raises(ValueError, match="counts from 1 to 10"):
        rate_factor(schedule, step, total_steps=10, warmup_steps=1)
