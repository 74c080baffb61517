import pytest

from lessexp.training.schedule import SCHEDULES, constant_factor, epoch_mean_rates, linear_factor, warmup_steps

# Released run of the paper: mean learning rates of its four checkpoints (princeton-nlp/LESS).
RELEASED_RATES = [1.6877e-05, 1.2859e-05, 7.7030e-06, 2.5616e-06]


def test_mean_rates_of_the_released_run_are_reproduced():
    rates = epoch_mean_rates(schedule="linear", learning_rate=2e-5, warmup_ratio=0.03, epochs=4, steps_per_epoch=105)
    # 0.5 %: the released numbers are averages of logged values.
    assert rates == pytest.approx(RELEASED_RATES, rel=5e-3)


def test_the_rise_is_rounded_up():
    assert warmup_steps(420, 0.03) == 13
    assert warmup_steps(100, 0.0) == 0


def test_linear_rises_to_one_and_falls_to_zero():
    factors = [linear_factor(step, total_steps=10, warmup_steps=4) for step in range(1, 11)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0])


def test_constant_stays_at_one_after_the_rise():
    assert [constant_factor(step, total_steps=4, warmup_steps=2) for step in (1, 2, 3, 4)] == [0.5, 1, 1, 1]
    assert constant_factor(1, total_steps=4, warmup_steps=0) == 1


@pytest.mark.parametrize("factor", SCHEDULES.values())
@pytest.mark.parametrize("step", [0, 11])
def test_a_step_outside_the_run_is_refused(factor, step):
    with pytest.raises(ValueError, match="counts from 1 to 10"):
        factor(step, total_steps=10, warmup_steps=1)


def test_a_run_of_rises_only_ends_at_the_peak():
    assert linear_factor(1, total_steps=1, warmup_steps=1) == 1
