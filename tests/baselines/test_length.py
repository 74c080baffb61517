import pytest

from baselines.length import LengthSelector, LengthSignError
from lessexp.data.rows import Row
from lessexp.selection.top_k import ranking
from tests.conftest import make_rows

TARGET = make_rows(4, prefix="target", target=True)
POOL = [
    Row("d", "short", (("user", "a long question indeed"), ("assistant", "no"))),
    Row("d", "two turns", (("user", "?"), ("assistant", "yes"), ("user", "?"), ("assistant", "oui"))),
    Row("d", "世界", (("system", "be brief"), ("user", "?"), ("assistant", "世界🎉世"))),
    Row("d", "empty", (("user", "?"), ("assistant", ""))),
]


@pytest.mark.parametrize("sign", [1, -1])
def test_scores_are_the_characters_of_all_answers(sign):
    scores = LengthSelector(sign=sign).score(POOL, TARGET).by_subtask
    assert scores.tolist() == [[sign * length] * 2 for length in (2, 6, 4, 0)]


def test_the_sign_turns_the_ranking_round():
    longest, shortest = (LengthSelector(sign=sign).score(POOL, TARGET) for sign in (1, -1))
    best_first = ["two turns", "世界", "short", "empty"]
    assert ranking(longest.by_subtask[:, 0], longest.example_ids) == best_first
    assert ranking(shortest.by_subtask[:, 0], shortest.example_ids) == best_first[::-1]


def test_another_sign_is_refused():
    with pytest.raises(LengthSignError, match=r"sign must be 1 .* or -1 .*, got 0"):
        LengthSelector(sign=0)
