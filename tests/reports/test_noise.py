import itertools

import numpy as np
import pytest
from scipy import stats

from lessexp.reports.noise import clear_best, exceeds_noise, interval_over_seeds, with_spread


def by_seed(*values, first=0):
    return dict(enumerate(map(float, values), start=first))


def test_spread_is_the_sample_standard_deviation():
    assert with_spread([1.0, 1.5, 1.7], 3) == "1.400 ± 0.361"  # sqrt((0.16 + 0.01 + 0.09) / 2)
    assert with_spread([1.0], 1) == "1.0"
    assert with_spread([1.0, np.nan], 1) == with_spread([np.inf], 1) == "not finite"


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8])
def test_noise_is_exceeded_exactly_where_scipys_test_says_so(shift):
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=3) * 0.5 + shift, generator.normal(size=4) * 0.4
    paired = stats.ttest_rel(first, second[:3]).pvalue < 0.05
    assert exceeds_noise(by_seed(*first), by_seed(*second[:3])) == paired
    unpaired = stats.ttest_ind(first, second, equal_var=False).pvalue < 0.05
    assert exceeds_noise(by_seed(*first), by_seed(*second)) == unpaired
    other_seeds = stats.ttest_ind(first, second[:3], equal_var=False).pvalue < 0.05
    assert exceeds_noise(by_seed(*first), by_seed(*second[:3], first=5)) == other_seeds


def test_the_cases_above_hold_both_answers_and_pairing_matters():
    # What the seeds have in common hides a steady lead of about 1, unless they are paired.
    first, second = by_seed(1.0, 11.1, 20.9), by_seed(0.0, 10.0, 20.0)
    assert exceeds_noise(first, second)
    assert not exceeds_noise(first, {seed + 3: value for seed, value in second.items()})


def test_a_single_run_is_never_ahead_and_equal_runs_are_not_either():
    assert not exceeds_noise(by_seed(9.0), by_seed(0.0, 0.1, 0.2))
    assert not exceeds_noise(by_seed(1.0, 1.0), by_seed(1.0, 1.0))
    assert exceeds_noise(by_seed(1.0, 1.0), by_seed(0.5, 0.5))
    assert exceeds_noise(by_seed(1.0, 1.0), by_seed(0.5, 0.5, first=2))


def test_the_best_must_be_ahead_of_all_others():
    high, low, wide = by_seed(0.9, 0.91, 0.92), by_seed(0.5, 0.52, 0.51), by_seed(0.2, 0.95, 0.6)
    assert clear_best({"high": high, "low": low}, 1) == "high"
    assert clear_best({"high": high, "low": low}, -1) == "low"
    assert clear_best({"high": high, "low": low}, 0) is None
    assert clear_best({"high": high, "low": low, "wide": wide}, 1) is None
    assert clear_best({"high": high}, 1) is None


def test_the_interval_over_three_seeds_reaches_from_the_lowest_to_the_highest():
    # All 27 resamples count: one in 27, more than 2.5 %, holds the lowest alone, another the highest.
    assert interval_over_seeds([0.2, 0.5, 0.1]) == pytest.approx((0.1, 0.5))


def test_the_interval_over_seeds_agrees_with_all_possible_resamples():
    values = [0.11, 0.35, 0.52, 0.77, 0.98, 0.20]
    means = np.array(list(itertools.product(values, repeat=6))).mean(axis=1)
    exact = np.quantile(means, (0.025, 0.975))
    # 10,000 draws: the 2.5 % quantile lies between the true 2.1 % and 2.9 % quantiles (2.5 standard errors).
    low, high = interval_over_seeds(values)
    assert np.quantile(means, 0.021) <= low <= np.quantile(means, 0.029)
    assert np.quantile(means, 0.971) <= high <= np.quantile(means, 0.979)
    assert (low, high) == pytest.approx(exact, abs=0.02)
