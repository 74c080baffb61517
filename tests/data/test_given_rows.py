import pytest
from datasets import Dataset, Features, List, Value

from lessexp.data.given_rows import given_records
from lessexp.data.rows import Row, RowError, checked_rows

TURNS = [{"role": "user", "content": "2 and 2?"}, {"role": "assistant", "content": "4"}]
SAID = (("user", "2 and 2?"), ("assistant", "4"))


def rows(given, *, name="pool", is_target=False):
    return list(checked_rows(lambda: given_records(given, name=name), is_target=is_target))


def test_messages_are_enough():
    assert rows([{"messages": TURNS}] * 2) == [Row("pool", "pool-0", SAID), Row("pool", "pool-1", SAID)]
    assert rows([{"messages": TURNS}], name="target", is_target=True) == [
        Row("target", "target-0", SAID, task="target", subtask="target")
    ]


def test_what_a_row_says_of_itself_is_kept_and_other_columns_are_carried_along():
    given = {"dataset": "sums", "id": 7, "messages": TURNS, "subtask": "easy", "stars": 5}
    assert rows([given]) == [Row("sums", "7", SAID, extra='{"subtask": "easy", "stars": 5}')]
    target = Row("sums", "7", SAID, task="sums", subtask="easy", extra='{"stars": 5}')
    assert rows([given], is_target=True) == [target]


def test_a_dataset_gives_what_its_list_gives_and_null_is_the_same_as_missing():
    given = [
        {"messages": TURNS, "id": "a", "dataset": None},
        {"messages": [*TURNS, {"role": "user", "content": "Why?"}], "id": None, "dataset": "sums"},
    ]
    turn = {"role": Value("string"), "content": Value("string")}
    features = Features({"messages": List(turn), "id": Value("string"), "dataset": Value("string")})
    found = rows(Dataset.from_list(given, features=features))
    assert found == rows(given)
    assert [(row.dataset, row.example_id) for row in found] == [("pool", "a"), ("sums", "pool-1")]


def test_a_dataset_that_is_shuffled_or_filtered_gives_the_rows_it_shows():
    numbered = Dataset.from_list([{"messages": TURNS, "id": str(i)} for i in range(6)])
    assert [row.example_id for row in rows(numbered.select([4, 1]))] == ["4", "1"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([{"messages": TURNS}, {"text": "4"}], r"pool\[1\]: there is no column 'messages'; the columns are text"),
        ([{"messages": "4"}], r"pool\[0\]: field 'messages' must be a non-empty list, it is '4'"),
        (["4"], r"pool\[0\]: a row must be a JSON object, it is str"),
        ([{"messages": []}], r"pool\[0\]: field 'messages' must be a non-empty list"),
        ([{"messages": TURNS, "id": 0.5}], r"pool\[0\]: field 'id' must be a non-empty string, it is 0.5"),
        ([{"messages": TURNS, "id": "a"}] * 2, r"pool\[1\]: id 'a' was already used at pool\[0\]"),
    ],
)
def test_a_row_that_breaks_the_format_is_named_by_its_place(given, message):
    with pytest.raises(RowError, match=message):
        rows(given)
