import statistics

import pytest

from lessexp.reports.curve import ablation_curve, swept_keys, swept_number
from lessexp.reports.settings import settings_of
from tests.reports.conftest import runs_of

NLLS = {"512": [1.0, 1.2], "8192": [0.5, 0.8], "1024": [0.9, 0.9]}


@pytest.fixture
def settings():
    swept = [run for d, nlls in NLLS.items() for run in runs_of("less", nlls, proj_dim=d)]
    return settings_of([*swept, *runs_of("random", [1.5, 1.7])])


def nll_of(settings):
    return next(measure for measure in settings[0].values if measure.name == "answer_nll")


@pytest.mark.parametrize(
    ("key", "value", "number"),
    [
        ("proj_dim", "512", 512),
        ("warmup.fraction", "0.05", 0.05),
        ("warmup.training.learning_rate", "2e-5", 2e-5),
        ("warmup.checkpoints", "[1,3,4]", 3),
        ("datastore.dtype", "bfloat16", 16),
        ("datastore.dtype", "int1", 1),
        ("gradients", "adam", None),
        ("flag", "true", None),
        ("data.paths", "[1,2]", None),
        ("warmup.checkpoints", "null", None),
    ],
)
def test_settings_that_stand_for_numbers_are_recognised(key, value, number):
    assert swept_number(key, value) == number


def test_a_curve_needs_two_numbers(settings):
    assert swept_keys(settings) == ["proj_dim"]
    assert swept_keys(settings_of([*runs_of(proj_dim="512"), *runs_of()])) == []


def test_a_curve_holds_means_in_order_and_a_band_of_one_deviation(settings):
    [axes] = ablation_curve(settings, nll_of(settings), "proj_dim").axes
    line = axes.get_lines()[0]
    assert list(line.get_xdata()) == [512, 1024, 8192]
    assert list(line.get_ydata()) == pytest.approx([1.1, 0.9, 0.65])
    corners = axes.collections[0].get_paths()[0].vertices
    assert corners[:, 1].min() == pytest.approx(0.65 - statistics.stdev([0.5, 0.8]))
    assert corners[:, 1].max() == pytest.approx(1.1 + statistics.stdev([1.0, 1.2]))


def test_settings_of_the_same_number_make_one_point():
    choices = {"[1]": [1.0, 1.2], "[2]": [0.4, 0.6], "[1,2]": [0.5, 0.5]}
    settings = settings_of([run for c, nlls in choices.items() for run in runs_of("less", nlls, warmup__checkpoints=c)])
    [axes] = ablation_curve(settings, nll_of(settings), "warmup.checkpoints").axes
    line = axes.get_lines()[0]
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([1, 2], pytest.approx([0.8, 0.5]))


def test_settings_without_the_number_and_the_untrained_model_are_levels(settings):
    [axes] = ablation_curve(settings, nll_of(settings), "proj_dim").axes
    levels = {line.get_label(): line.get_ydata()[0] for line in axes.get_lines()[1:]}
    assert levels == pytest.approx({"random": 1.6, "untrained": 3.0})


def test_an_axis_is_logarithmic_where_the_numbers_span_decades(settings):
    [axes] = ablation_curve(settings, nll_of(settings), "proj_dim").axes
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["512", "1024", "8192"]
    assert axes.get_xlabel() == "projection dimension d"
    near = settings_of([*runs_of(lora__rank="4"), *runs_of(lora__rank="8")])
    [axes] = ablation_curve(near, nll_of(near), "lora.rank").axes
    assert axes.get_xscale() == "linear"


def test_other_settings_are_lines_of_their_own():
    runs = [run for d in ("512", "1024") for g in ("adam", "sgd") for run in runs_of(proj_dim=d, gradients=g)]
    settings = settings_of(runs)
    [axes] = ablation_curve(settings, nll_of(settings), "proj_dim").axes
    labels = [line.get_label() for line in axes.get_lines()]
    assert labels == ["less gradients=adam", "less gradients=sgd", "untrained"]


def test_no_choice_of_checkpoints_stands_where_their_number_is_known_and_is_a_level_of_its_own_where_not():
    choices = {"[1]": 1.0, "[1,2]": 0.8, "null": 0.7}
    runs = [run for c, nll in choices.items() for run in runs_of("less", [nll], warmup__checkpoints=c)]
    settings = settings_of(runs)
    [axes] = ablation_curve(settings, nll_of(settings), "warmup.checkpoints").axes
    assert [line.get_label() for line in axes.get_lines()] == ["less", "less warmup.checkpoints=null", "untrained"]
    for run in runs:
        run.results["stages"]["gradients"]["artifacts"]["pool_gradients"]["n_checkpoints"] = 4
    [axes] = ablation_curve(settings, nll_of(settings), "warmup.checkpoints").axes
    assert [line.get_label() for line in axes.get_lines()] == ["less", "untrained"]
    assert list(axes.get_lines()[0].get_xdata()) == [1, 2, 4]
