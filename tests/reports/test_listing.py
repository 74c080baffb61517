import numpy as np

from lessexp.reports.listing import best_places, ranks_to_list, read_listed, read_scores, selected_places
from tests.reports.written_run import make_pool, write_run


def test_rows_come_back_with_their_ranks_and_scores(tmp_path):
    folder = write_run(tmp_path / "run", n_pool=9, n_selected=4)
    scores = read_scores(folder)
    places = selected_places(folder, scores)
    assert places.tolist() == [0, 1, 2, 3]
    second, fourth = read_listed(folder, scores, places, [1, 3])
    assert (second.rank, second.row, second.score) == (2, make_pool(9)[1], 0.875)
    assert (fourth.rank, fourth.by_subtask) == (4, [0.625, -0.625])


def test_all_rows_are_listed_if_they_fit():
    assert ranks_to_list(np.zeros((3, 1)), ["a"] * 3, n_rows=3) == [0, 1, 2]


def test_otherwise_the_best_of_all_and_of_each_subtask_and_data_set_are():
    by_subtask = np.zeros((100, 2))
    by_subtask[90, 0] = by_subtask[91, 1] = 1
    datasets = ["common"] * 99 + ["rare"]
    listed = ranks_to_list(by_subtask, datasets, n_rows=10)
    assert len(listed) == 10 and listed == sorted(listed)
    assert {0, 1, 2, 3, 4, 90, 91, 99} <= set(listed)


def test_the_first_of_equal_rows_is_the_best():
    assert best_places(np.array([1.0, 3.0, 3.0, 2.0]), n=3) == [1, 2, 3]
