import json
from functools import partial

import datasets
import pytest

from lessexp.data.columns import instruction_input_output, messages, prompt_completion
from lessexp.data.hub import DatasetSettingsError, hf_pool
from lessexp.data.pool import DataUnavailableError
from lessexp.data.rows import Row, RowError, checked_rows
from lessexp.data.source import RowSource

RECORDS = [
    {"prompt": f"{i}\u2028+ 1?", "completion": str(i + 1), "key": 100 + i, "source": ("sums", "more")[i % 2]}
    for i in range(5)
]
SETTINGS = dict(
    config=None,
    split="train",
    revision=None,
    columns=partial(prompt_completion, prompt="prompt", completion="completion", system=None),
    id_column=None,
    dataset=None,
    dataset_column=None,
    counts=None,
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write_repository(folder, records=RECORDS, split="train"):
    """A folder in the layout of the hub."""
    folder.mkdir(exist_ok=True)
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(folder)


def rows_of(path, **changes):
    return list(checked_rows(hf_pool(path, **SETTINGS | changes).records))


def expected_row(i, **changes):
    fields = dict(dataset="toy", example_id=f"toy-train-{i}") | changes
    return Row(messages=(("user", RECORDS[i]["prompt"]), ("assistant", RECORDS[i]["completion"])), **fields)


def test_a_folder_in_the_layout_of_the_hub_gives_its_rows_numbered_from_zero(tmp_path):
    path = write_repository(tmp_path / "toy")
    assert rows_of(path) == [expected_row(i) for i in range(5)]
    assert isinstance(hf_pool(path, **SETTINGS), RowSource)


def test_a_saved_data_set_and_one_of_several_saved_splits_are_read(tmp_path):
    saved = datasets.Dataset.from_list(RECORDS)
    saved.save_to_disk(tmp_path / "one" / "toy")
    datasets.DatasetDict({"train": saved, "test": saved.select([4, 0])}).save_to_disk(tmp_path / "two" / "toy")
    assert rows_of(str(tmp_path / "one" / "toy")) == [expected_row(i) for i in range(5)]
    found = rows_of(str(tmp_path / "two" / "toy"), split="test")
    assert found == [expected_row(4, example_id="toy-test-0"), expected_row(0, example_id="toy-test-1")]


def test_ids_and_data_sets_come_from_columns_or_a_constant(tmp_path):
    path = write_repository(tmp_path / "toy")
    assert rows_of(path, id_column="key", dataset="mine")[3] == expected_row(3, example_id="103", dataset="mine")
    assert rows_of(path, dataset_column="source")[3] == expected_row(3, dataset="more")


def test_the_hub_is_asked_for_what_is_named(monkeypatch):
    asked = []

    def hub(*arguments, **settings):
        asked.append((arguments, settings))
        return datasets.Dataset.from_list(RECORDS)

    monkeypatch.setattr(datasets, "load_dataset", hub)
    found = rows_of("some/toy", config="main", revision="abc")
    assert found == [expected_row(i) for i in range(5)]
    assert asked == [(("some/toy", "main"), {"split": "train", "revision": "abc"})]


def test_a_bad_row_is_named_by_data_set_split_row_and_column(tmp_path):
    path = write_repository(tmp_path / "toy", [*RECORDS[:3], RECORDS[3] | {"completion": None}])
    with pytest.raises(RowError, match=r"data set '.*toy', split 'train', row 3, column 'completion': must be a str"):
        rows_of(path)
    for column, complaint in (("sauce", "there is no column 'sauce'"), ("key", "column 'key'")):
        broken = write_repository(tmp_path / column, [RECORDS[0] | {"key": 1.5}])
        with pytest.raises(RowError, match=f"row 0.*{complaint}"):
            rows_of(broken, id_column=column)
    with pytest.raises(RowError, match=r"row 2: id 'sums' was already used at .*row 0"):
        rows_of(write_repository(tmp_path / "toy"), id_column="source")


@pytest.mark.parametrize("change", [{"split": "dev"}, {"config": "other"}])
def test_a_split_or_configuration_that_does_not_exist_is_named(tmp_path, change):
    path = write_repository(tmp_path / "toy")
    [name] = change.values()
    with pytest.raises(DatasetSettingsError, match=f"toy'.*{name}.*data.config and data.split"):
        hf_pool(path, **SETTINGS | change)


def test_a_saved_split_of_another_name_is_not_taken_for_the_one_asked_for(tmp_path):
    saved = datasets.Dataset.from_list(RECORDS, split="test")
    saved.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"test": saved}).save_to_disk(tmp_path / "several")
    for name, complaint in (("one", "is the split 'test'; set data.split=test"), ("several", "it has test")):
        with pytest.raises(DatasetSettingsError, match=complaint):
            hf_pool(str(tmp_path / name), **SETTINGS)


def test_an_unreachable_hub_and_an_empty_folder_name_the_key_that_takes_a_local_one(monkeypatch, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataUnavailableError, match=r"empty.*data\.path"):
        hf_pool(str(tmp_path / "empty"), **SETTINGS)

    def unreachable(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(DataUnavailableError, match=r"some/repo.*no route to host.*data\.path"):
        hf_pool("some/repo", **SETTINGS)


def test_the_identity_follows_content_split_mapping_and_names(tmp_path):
    path = write_repository(tmp_path / "toy")
    write_repository(tmp_path / "toy", RECORDS[1:], split="test")
    alpaca = partial(instruction_input_output, instruction="prompt", input=None, output="completion", system=None)
    changes = [
        {},
        {"split": "test"},
        {"split": "train[:3]"},
        {"id_column": "key"},
        {"dataset": "mine"},
        {"dataset_column": "source"},
        {"columns": alpaca},
        {"columns": partial(messages, column="prompt")},
        {"columns": partial(messages, column="completion")},
    ]
    found = [hf_pool(path, **SETTINGS | change).identity() for change in changes]
    assert all(found.count(identity) == 1 for identity in found)
    assert hf_pool(path, **SETTINGS).identity() == found[0]
