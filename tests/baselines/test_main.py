import pytest

from baselines.__main__ import made_up_rows, main
from lessexp.data.rows import Row


def test_made_up_rows_have_the_words_asked_for_on_average():
    rows = made_up_rows(400, mean_words=40, seed=0)
    assert len({row.example_id for row in rows}) == 400 and isinstance(rows[0], Row)
    mean = sum(len(content.split()) for row in rows for _, content in row.messages) / 400
    assert mean == pytest.approx(40, rel=0.12)  # the spread of a length is half of it, that of 400 a fortieth


def test_seconds_and_memory_are_printed(capsys):
    main(["dsir", "--rows", "20", "--mean-words", "30"])
    assert capsys.readouterr().out.startswith("dsir: 20 rows of ")
