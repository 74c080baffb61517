import itertools

import pytest
from matplotlib.text import Annotation, Text

from lessexp.reports.cost_figure import against_cost
from lessexp.reports.settings import settings_of
from tests.reports.conftest import runs_of


def drawn(figures, seconds):
    """The axes of settings with these figures and seconds."""
    runs = []
    for index, (nlls, spent) in enumerate(zip(figures, seconds, strict=True)):
        of_setting = runs_of("less", nlls, data=f"pool_{index}")
        for run in of_setting:
            run.results["stages"]["finetune"]["seconds"] = spent - 10  # the other stage took 10
        runs += of_setting
    settings = settings_of(runs)
    by_name = {measure.name: measure for measure in settings[0].values}
    return against_cost(settings, by_name["answer_nll"], by_name["seconds"]).axes[0]


def test_a_point_is_the_mean_figure_at_the_mean_cost():
    axes = drawn([[1.0, 1.4], [0.5, 0.5]], [20.0, 30.0])
    marked = [line for line in axes.get_lines() if line.get_marker() in ("o", "s")]
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in marked]
    assert points == [pytest.approx((20, 1.2)), pytest.approx((30, 0.5))]
    assert axes.get_xlabel() == "cost [seconds]"


def test_every_setting_is_labelled_and_labels_cover_neither_each_other_nor_points():
    axes = drawn([[1.0, 1.4], [1.21, 1.2], [1.19, 1.2], [0.5, 0.5]], [20.0, 20.1, 20.2, 30.0])
    labels = [text for text in axes.texts if isinstance(text, Annotation)]
    assert sorted(label.get_text() for label in labels) == [f"less data=pool_{index}" for index in range(4)]
    boxes = [Text.get_window_extent(label) for label in labels]
    assert not any(first.overlaps(second) for first, second in itertools.combinations(boxes, 2))
    for line in axes.get_lines():
        for x, y in axes.transData.transform(line.get_xydata()):
            assert not any(box.contains(x, y) for box in boxes)


def test_costs_of_several_decades_stand_on_a_logarithmic_axis():
    assert drawn([[1.0], [0.5]], [20.0, 3000.0]).get_xscale() == "log"
    assert drawn([[1.0], [0.5]], [20.0, 30.0]).get_xscale() == "linear"
