import numpy as np
import pytest

from lessexp.data.seeds import derived_seed
from lessexp.evaluation import bootstrap as module
from lessexp.evaluation.bootstrap import bootstrap, resampled_means


def values(*sizes, seed=0):
    generator = np.random.default_rng(seed)
    found = {}
    for index, size in enumerate(sizes):
        base, gain = generator.normal(index, 1, size), generator.normal(0.3, 0.5, size)
        found[f"subtask {index}"] = np.stack([base, base + gain, gain], axis=1)
    return found


# All at once, a few resamples at a time, one at a time.
@pytest.mark.parametrize("at_once", [4_000_000, 100, 1])
def test_intervals_equal_those_of_a_plain_loop(monkeypatch, at_once):
    monkeypatch.setattr(module, "_NUMBERS_AT_ONCE", at_once)
    data = values(7, 30)
    found = bootstrap(data, n_resamples=50, confidence=0.8, seed=3)
    means = {}
    for name, rows in data.items():
        generator = np.random.default_rng(derived_seed(3, "bootstrap", name))
        resamples = []
        for _ in range(50):
            drawn = [rows[index] for index in generator.integers(len(rows), size=len(rows))]
            resamples.append([sum(row[column] for row in drawn) / len(drawn) for column in range(3)])
        means[name] = resamples
    for column in range(3):
        for name in data:
            of_subtask = [resample[column] for resample in means[name]]
            expected = [np.percentile(of_subtask, tail) for tail in (10, 90)]
            assert found.by_subtask[name][column] == pytest.approx(expected)
        together = [sum(means[name][index][column] for name in data) / 2 for index in range(50)]
        assert found.mean[column] == pytest.approx([np.percentile(together, tail) for tail in (10, 90)])


def test_the_interval_of_a_difference_is_that_of_rows_drawn_together():
    data = values(200)["subtask 0"]
    base, tuned, change = resampled_means(data, n_resamples=400, seed=0).T
    assert change == pytest.approx(tuned - base)
    assert change.std() < 0.7 * base.std()  # drawn apart, tuned - base would vary more than either


def test_ninety_per_cent_intervals_hold_the_truth_about_as_often():
    generator = np.random.default_rng(1)
    held = 0
    for seed in range(300):
        data = {name: generator.exponential(1.0, (60, 1)) for name in ("a", "b")}
        ((low, high),) = bootstrap(data, n_resamples=300, confidence=0.9, seed=seed).mean
        held += low <= 1.0 <= high
    # Binomial standard deviation 1.7 %; percentile intervals of skewed means fall a little short.
    assert 0.84 < held / 300 < 0.95


def test_draws_depend_on_the_seed_and_not_on_other_subtasks():
    data = values(20, 20)
    settings = dict(n_resamples=100, confidence=0.9)
    both = bootstrap(data, seed=0, **settings).by_subtask["subtask 1"]
    alone = bootstrap({"subtask 1": data["subtask 1"]}, seed=0, **settings).by_subtask["subtask 1"]
    assert np.array_equal(both, alone)
    assert not np.array_equal(both, bootstrap(data, seed=1, **settings).by_subtask["subtask 1"])


def test_one_row_leaves_no_doubt():
    assert np.array_equal(resampled_means(np.array([[3.0]]), n_resamples=5, seed=0), np.full((5, 1), 3.0))


@pytest.mark.parametrize("rows", [[[2.0, 3.0]], [[2.0, 3.0]] * 5])
def test_one_row_or_one_value_gives_intervals_without_width(rows):
    found = bootstrap({"a": np.array(rows)}, n_resamples=20, confidence=0.9, seed=0)
    assert found.mean.tolist() == found.by_subtask["a"].tolist() == [[2, 2], [3, 3]]


@pytest.mark.parametrize("empty", [{}, {"a": np.ones((2, 1)), "b": np.ones((0, 1))}])
def test_nothing_has_no_intervals(empty):
    with pytest.raises(ValueError, match="a row of each subtask"):
        bootstrap(empty, n_resamples=20, confidence=0.9, seed=0)
