import gzip
import json
import os
from functools import partial

import datasets
import pytest

from lessexp.data.columns import instruction_input_output, messages, prompt_completion
from lessexp.data.hub import DatasetSettingsError, hf_pool
from lessexp.data.pool import DataUnavailableError
from lessexp.data.rows import Row, RowError, checked_rows
from lessexp.data.source import RowSource
from lessexp.errors import MissingFileError

RECORDS = [
    {"prompt": f"{i}\u2028+ 1?", "completion": str(i + 1), "key": 100 + i, "source": ("sums", "more")[i % 2]}
    for i in range(5)
]
SETTINGS = dict(
    paths=None,
    config=None,
    split="train",
    revision=None,
    columns=partial(prompt_completion, prompt="prompt", completion="completion", system=None),
    id_column=None,
    dataset=None,
    dataset_column=None,
    counts=None,
    on_bad_row="stop",
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
    fields = dict(dataset="toy", example_id=f"toy-train-{i}", extra=json.dumps(RECORDS[i])) | changes
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


FILES = {
    "toy.jsonl": lambda path: path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS)),
    "toy.json": lambda path: path.write_text(json.dumps(RECORDS, indent=1)),
    "toy.JSONL": lambda path: path.write_text("".join(json.dumps(record) + "\r\n" for record in RECORDS)),
    "toy.jsonl.gz": lambda path: path.write_bytes(gzip.compress("\n".join(map(json.dumps, RECORDS)).encode())),
    "toy.csv": lambda path: datasets.Dataset.from_list(RECORDS).to_csv(path),
    "toy.tsv": lambda path: datasets.Dataset.from_list(RECORDS).to_csv(path, sep="\t"),
    "toy.parquet": lambda path: datasets.Dataset.from_list(RECORDS).to_parquet(path),
}


@pytest.mark.parametrize("name", FILES)
def test_a_single_file_is_read_by_what_its_name_says_it_holds(tmp_path, name):
    FILES[name](tmp_path / name)
    is_table = name.endswith(("csv", "tsv"))  # whose cells are text
    extras = [json.dumps(record | ({"key": str(record["key"])} if is_table else {})) for record in RECORDS]
    assert rows_of(str(tmp_path / name)) == [expected_row(i, extra=extras[i]) for i in range(5)]


def test_no_cell_of_a_table_is_taken_for_a_number_or_for_nothing(tmp_path):
    answers = ["007", "1.50", "None", "NA", "null", "true", "2026-01-01"]
    lines = ["prompt,completion", *(f"What is {i}?,{answer}" for i, answer in enumerate(answers))]
    (tmp_path / "toy.csv").write_text("\ufeff" + "\n".join(lines))
    assert [row.messages[-1][1] for row in rows_of(str(tmp_path / "toy.csv"))] == answers


def test_several_files_of_a_kind_are_one_data_set_called_after_their_folder(tmp_path):
    (tmp_path / "toy").mkdir()
    for part in (0, 1):
        lines = [json.dumps(record) + "\n" for record in RECORDS[3 * part : 3 * part + 3]]
        (tmp_path / "toy" / f"part-{part}.jsonl").write_text("".join(lines))
    expected = [expected_row(i) for i in range(5)]
    assert rows_of(str(tmp_path / "toy" / "*.jsonl")) == expected
    several = [str(tmp_path / "toy" / f"part-{part}.jsonl") for part in (0, 1)]
    assert rows_of(several) == rows_of(None, paths=several) == expected
    FILES["toy.csv"](tmp_path / "toy" / "more.csv")
    with pytest.raises(
        DatasetSettingsError, match=r"data\.path names files of the kinds \.csv, \.jsonl; give files of one"
    ):
        rows_of(str(tmp_path / "toy" / "*"))


def test_a_file_that_is_not_there_or_cannot_be_read_is_named(tmp_path):
    (tmp_path / "rows.txt").write_text("2+2?")
    for path, error, complaint in (
        (tmp_path / "rows.txt", MissingFileError, "rows.txt cannot be read; rename it to .jsonl if"),
        (tmp_path / "no*.csv", MissingFileError, "matches no file"),
        (tmp_path / "nowhere.csv", DataUnavailableError, "could not load the data set '.*nowhere.csv'"),
    ):
        with pytest.raises(error, match=complaint):
            rows_of(str(path))


def test_one_odd_value_leaves_the_other_rows_as_they_are(tmp_path):
    records = [record | {"completion": f"It is {i + 1}."} for i, record in enumerate(RECORDS)]
    odd = [*records[:3], RECORDS[3] | {"completion": 4}, records[4]]  # makes the column one of JSON texts
    path = write_repository(tmp_path / "toy", odd)
    with pytest.raises(RowError, match=r"row 3, column 'completion': must be a string, it is 4$"):
        rows_of(path)
    left_out = []
    source = hf_pool(path, **SETTINGS | {"on_bad_row": "skip"})
    assert source.skips_bad_rows and source.identity() != hf_pool(path, **SETTINGS).identity()
    kept = list(checked_rows(source.records, skip=left_out.append))
    assert [row.messages[-1][1] for row in kept] == [f"It is {i}." for i in (1, 2, 3, 5)]
    assert [(bad.where.file, bad.where.line) for bad in left_out] == [(path, 3)]
    assert left_out[0].reason == "column 'completion': must be a string, it is 4"


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


def replace_content(place, write):
    """Write files anew and give them their former times, as ``cp -p`` and ``rsync -t`` do."""
    times = {file: file.stat().st_mtime_ns for file in place.rglob("*") if file.is_file()}
    write()
    for file, time in times.items():
        os.utime(file, ns=(time, time))


def write_in(kind, folder, records):
    """Records in files of some kind below a folder; returns what names them."""
    folder.mkdir(exist_ok=True)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    if kind == "folder":
        return write_repository(folder, records)
    if kind == "packed folder":
        (folder / "train.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
        return str(folder)
    if kind == "configurations":
        (folder / "README.md").write_text(
            "---\nconfigs:\n- config_name: main\n  data_files:\n  - split: train\n    path: parts/*.jsonl\n---\n"
        )
        write_repository(folder / "parts", records)
        return str(folder)
    if kind == "saved":
        datasets.Dataset.from_list(records).save_to_disk(folder)
        return str(folder)
    if kind == "saved splits":
        datasets.DatasetDict({"train": datasets.Dataset.from_list(records)}).save_to_disk(folder)
        return str(folder)
    if kind == "pattern":
        write_repository(folder, records)
        return str(folder / "*.jsonl")
    table = datasets.Dataset.from_list(records)
    file = folder / f"rows.{kind}"
    if kind == "jsonl.gz":
        file.write_bytes(gzip.compress(lines.encode(), mtime=0))
    else:
        {"csv": table.to_csv, "parquet": table.to_parquet, "json": table.to_json}[kind](file)
    return str(file)


KINDS = [
    *("folder", "packed folder", "configurations", "saved", "saved splits", "pattern"),
    *("csv", "parquet", "json", "jsonl.gz"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_and_identity_are_those_of_the_files_now_whatever_their_times(tmp_path, kind):
    path = write_in(kind, tmp_path / "toy", RECORDS)
    before, identity = rows_of(path), hf_pool(path, **SETTINGS).identity()
    changed = RECORDS[::-1]
    replace_content(tmp_path / "toy", lambda: write_in(kind, tmp_path / "toy", changed))
    assert [row.messages for row in rows_of(path)] == [row.messages for row in before[::-1]]
    assert hf_pool(path, **SETTINGS).identity() != identity
    write_in(kind, tmp_path / "toy", RECORDS)
    assert rows_of(path) == before
    assert hf_pool(path, **SETTINGS).identity() == identity
