import re

import numpy as np
import pytest

from lessexp.reports.charts import WIDTH, bars_chart, histogram_chart, number, points_chart
from lessexp.reports.distributions import Histogram


def boxes(path):
    """Widths and heights of the boxes of path data."""
    return [
        (float(width), float(height))
        for width, height in re.findall(r"M[\d.]+ [\d.]+h([\d.]+)v([\d.]+)h-[\d.]+z", path)
    ]


def test_bars_are_as_high_as_their_shares():
    counted = Histogram([0.0, 1.0, 2.0, 3.0], {"pool": [1, 0, 3], "selected": [0, 2, 0]}, 0)
    chart = histogram_chart("scores", "Scores", counted, caption="score")
    (low, high), style = [height for _, height in boxes(chart.paths[0][1])], chart.paths[0][0]
    assert style == "pool"
    assert high / low == pytest.approx(3, rel=1e-2)  # coordinates have one digit after the point
    assert chart.lines == [["0 to 1", "1", "0"], ["1 to 2", "0", "2"], ["2 to 3", "3", "0"]]
    assert chart.header == ["score", "pool", "selected"]


def test_the_longest_bar_belongs_to_the_largest_share_and_long_names_are_cut():
    shares = {"a" * 100: (0.5, 0.25), "b": (0.0, 1.0)}
    chart = bars_chart("shares", "Shares", shares, names=("pool", "selection"))
    (pool, _), (chosen, longest) = ([width for width, _ in boxes(path)] for _, path in chart.paths)
    assert (pool / longest, chosen / longest) == (pytest.approx(0.5, abs=0.01), pytest.approx(0.25, abs=0.01))
    texts = [text.content for text in chart.texts]
    assert max(map(len, texts)) < 50 and {"50.0%", "100.0%", "b"} <= set(texts)


def test_points_lie_within_the_chart_even_if_all_are_equal():
    groups = {"pool": (np.array([7, 7]), np.array([1.0, 1.0])), "selected": (np.array([7]), np.array([1.0]))}
    chart = points_chart("p", "P", groups, captions=("x", "y"), table=(["x"], [["1"]]), description="d")
    points = [tuple(map(float, point)) for _, path in chart.paths[:2] for point in re.findall(r"M(\S+) (\S+)h0", path)]
    assert len(points) == 3
    assert all(0 <= x <= WIDTH and 0 <= y <= chart.height for x, y in points)


def test_the_horizontal_axis_of_points_is_logarithmic():
    groups = {
        "pool": (np.array([1, 10, 100]), np.array([0.0, 1.0, 2.0])),
        "selected": (np.array([0]), np.array([0.0])),
    }
    chart = points_chart("p", "P", groups, captions=("x", "y"), table=([], []), description="d")
    first, second, third = (float(x) for x in re.findall(r"M(\S+) \S+h0", chart.paths[0][1]))
    assert second - first == pytest.approx(third - second, abs=0.2)  # coordinates have one digit after the point
    assert re.findall(r"M(\S+) ", chart.paths[1][1])[0] == f"{first:.1f}", "an empty answer stands at the left end"


@pytest.mark.parametrize(("value", "text"), [(0.123456, "0.1235"), (270679, "270,679"), (12.0, "12"), (-3.0, "-3")])
def test_numbers_have_few_digits(value, text):
    assert number(value) == text
