import statistics

import pytest
from matplotlib.colors import to_rgb

from lessexp.reports.figure_style import COLOURS, DASHES, MARKERS, measure_label, nth, spans_decades, spread
from lessexp.reports.measures import Measure


def luminance(colour):
    """Relative luminance of WCAG 2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", COLOURS)
def test_text_in_every_colour_can_be_read_on_white(colour):
    assert 1.05 / (luminance(colour) + 0.05) >= 4.5  # what WCAG 2 asks of small text


def test_lines_differ_without_colour_too():
    looks = [(nth(DASHES, index), nth(MARKERS, index)) for index in range(10)]
    assert len(set(looks)) == 10
    assert nth(COLOURS, len(COLOURS)) == COLOURS[0]


def test_axes_say_what_is_measured_in_which_unit_and_which_way_is_good():
    assert measure_label(Measure("answer_nll", "answer_nll", ("toy",), -1)) == "answer NLL [nats a token], low is good"
    assert measure_label(Measure("mmlu", "accuracy", ("mmlu",), 1)) == "mmlu (accuracy)"
    assert measure_label(Measure("score", "score", ("toy",), 1)) == "score"


def test_only_positive_values_more_than_a_factor_of_ten_apart_span_decades():
    assert spans_decades([1.0, 11.0])
    assert not spans_decades([1.0, 10.0]) and not spans_decades([0.0, 100.0])


def test_a_single_run_has_no_spread():
    assert spread([3.0]) == 0
    assert spread([1.0, 2.0, 4.0]) == statistics.stdev([1.0, 2.0, 4.0])
