from collections import Counter

import numpy as np
import pytest
from matplotlib.figure import Figure

from lessexp.reports.selection_figures import composition_figure, length_figure, score_figure

POOL = ["sums"] * 6 + ["words"] * 3 + ["$x$"] + ["gcd"] * 10
SELECTED = ["words", "sums", "words", "$x$"]


def bars(axes):
    """Widths of the bars of pool and selection, by the label beside them, as a reader takes them from the picture."""
    labels = [label.get_text() for label in axes.get_yticklabels()]
    found = {}
    for container in axes.containers:
        found[container.get_label()] = {
            labels[round(bar.get_y() + bar.get_height() / 2)]: bar.get_width() for bar in container
        }
    return found


def test_bars_are_the_shares_of_the_data_sets():
    figure = composition_figure(POOL, SELECTED)
    found = bars(figure.axes[0])
    for name, rows in (("pool", POOL), ("selected", SELECTED)):
        shares = {dataset.replace("$", r"\$"): 100 * Counter(rows)[dataset] / len(rows) for dataset in POOL}
        assert found[name] == pytest.approx(shares)
    assert list(found["selected"]) == ["words", "sums", r"\$x\$", "gcd"]


def test_data_sets_beyond_the_first_are_one_bar():
    found = bars(composition_figure(POOL, SELECTED, at_most=2).axes[0])
    assert found["pool"] == pytest.approx({"words": 15, "sums": 30, "2 others": 55})
    assert found["selected"] == pytest.approx({"words": 50, "sums": 25, "2 others": 25})


def test_every_score_is_in_the_bar_that_stands_over_it():
    scores = [0.0, 0.1, 0.26, 0.3, 0.74, 0.75, 0.9, 1.0]
    is_selected = [score > 0.7 for score in scores]
    pool, selected = score_figure(scores, is_selected, n_bins=4).axes[0].containers
    assert [bar.get_height() for bar in pool] == [2, 2, 1, 3]
    assert [bar.get_height() for bar in selected] == [0, 0, 1, 3]
    assert [(bar.get_x(), bar.get_width()) for bar in pool] == [(0, 0.25), (0.25, 0.25), (0.5, 0.25), (0.75, 0.25)]


def test_points_are_lengths_and_scores_and_the_title_says_how_far_they_agree():
    lengths, scores = [10, 0, 30, 40], [1.0, 2.0, 3.0, 4.0]
    axes = length_figure(lengths, scores, [False, False, True, True]).axes[0]
    left, chosen = (points.get_offsets().tolist() for points in axes.collections)
    assert (left, chosen) == ([[10, 1], [1, 2]], [[30, 3], [40, 4]])  # an empty answer stands at the axis's first place
    assert axes.get_title() == f"Scores and lengths: Spearman correlation {1 - 6 * 2 / (4 * 15):.2f}"


@pytest.mark.parametrize(("lengths", "scores"), [([3], [1.0]), ([3, 4], [1.0, 1.0])])
def test_where_nothing_varies_the_correlation_is_undefined(lengths, scores):
    figure = length_figure(lengths, scores, [True] * len(scores))
    assert figure.axes[0].get_title().endswith("undefined")


@pytest.fixture(params=["composition", "scores", "lengths"])
def figure(request):
    scores, is_selected = np.linspace(0, 1, 20), [False] * 16 + [True] * 4
    match request.param:
        case "composition":
            return composition_figure(POOL, SELECTED)
        case "scores":
            return score_figure(scores.tolist(), is_selected)
        case "lengths":
            return length_figure(list(range(20)), scores.tolist(), is_selected)


def test_every_figure_names_its_axes_and_colours_and_shows_itself_without_pyplot(figure):
    [axes] = figure.axes
    assert axes.get_title() and axes.get_xlabel() and (axes.get_ylabel() or axes.get_yticklabels())
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["pool", "selected"]
    assert isinstance(figure, Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")
