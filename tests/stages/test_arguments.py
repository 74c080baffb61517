from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from lessexp.data.rows import RowError, read_rows
from lessexp.data.target import EmptyTargetError
from lessexp.stages.arguments import (
    is_in_memory,
    model_overrides,
    option_override,
    rows_overrides,
    write_given_rows,
)
from lessexp.stages.composition import compose_config
from lessexp.stages.configuration import ExperimentError
from tests.conftest import make_rows

ROWS = [row.to_json() for row in make_rows(3, target=True)]
FILE = Path("/run/rows.jsonl")


def test_a_model_is_an_option_or_a_folder_or_a_name_on_the_hub(tmp_path, monkeypatch):
    assert model_overrides("llama2_7b") == ["model=llama2_7b"]
    local = compose_config(model_overrides(tmp_path)).model
    assert (local.name, local.path) == ("hf", str(tmp_path))
    remote = compose_config(model_overrides("Qwen/Qwen3-0.6B")).model
    assert (remote.path, remote.source.repo_id) == (None, "Qwen/Qwen3-0.6B")
    monkeypatch.chdir(tmp_path.parent)
    assert compose_config(model_overrides(f"./{tmp_path.name}")).model.path == str(tmp_path)


@pytest.mark.parametrize("model", ["smollm", "../no/folder", Path("owner/name")])
def test_a_model_that_is_nothing_of_the_kind_is_refused(model):
    with pytest.raises(ExperimentError, match=r"is neither one of hf, .*, nor a local folder, nor the name of a model"):
        model_overrides(model)


def test_rows_are_an_option_or_files_or_in_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert rows_overrides("pool", "reasoning_gym", FILE) == ["data=reasoning_gym"]
    assert rows_overrides("target", "mmlu", FILE) == ["target=mmlu"]
    paths = ["a b.jsonl", tmp_path / "*.parquet"]
    pool = compose_config(rows_overrides("pool", paths, FILE)).data
    assert pool.paths == [str(tmp_path / "a b.jsonl"), str(tmp_path / "*.parquet")]
    for given in (ROWS, Dataset.from_list(ROWS)):
        assert compose_config(rows_overrides("pool", given, FILE)).data.paths == [str(FILE)]
        assert compose_config(rows_overrides("target", given, FILE)).target.path == str(FILE)
    assert [is_in_memory(given) for given in ("mmlu", paths, ROWS, [])] == [False, False, True, True]
    (tmp_path / "rows.json").touch()  # JSON lines under another name
    assert rows_overrides("target", "rows.json", FILE) == ["target=jsonl", f"target.path='{tmp_path / 'rows.json'}'"]


@pytest.mark.parametrize(
    ("argument", "given", "error", "message"),
    [
        ("pool", "reasoning_gim", ExperimentError, r"pool='reasoning_gim' is neither a file \(.jsonl, .*reasoning_gym"),
        ("target", "nowhere", ExperimentError, "target='nowhere' is neither a file .* nor one of bbh, "),
        ("pool", DatasetDict(), ExperimentError, "pool is a DatasetDict; give files, .* datasets.Dataset .one split"),
        ("pool", None, ExperimentError, "pool is a NoneType; give files"),
        ("pool", [], ExperimentError, "pool holds no row"),
        ("target", Dataset.from_dict({"messages": []}), EmptyTargetError, "target holds no row"),
    ],
)
def test_rows_that_are_nothing_of_the_kind_are_refused(argument, given, error, message):
    with pytest.raises(error, match=message):
        rows_overrides(argument, given, FILE)


def test_rows_in_memory_are_written_in_the_row_format(tmp_path):
    write_given_rows("target", ROWS, tmp_path / "target.jsonl")
    assert read_rows([tmp_path / "target.jsonl"], is_target=True) == make_rows(3, target=True)
    write_given_rows("pool", ROWS, tmp_path / "pool.jsonl")
    assert [row.to_json() for row in read_rows([tmp_path / "pool.jsonl"])] == ROWS  # other columns among them
    with pytest.raises(RowError, match=r"pool\[1\]: id 'row-000' was already used at pool\[0\]"):
        write_given_rows("pool", [ROWS[0]] * 2, tmp_path / "twice.jsonl")
    assert not (tmp_path / "twice.jsonl").exists()


def test_an_unknown_option_lists_those_there_are():
    assert option_override("logger", "csv") == "logger=csv"
    with pytest.raises(ExperimentError, match="logger='cvs' does not exist; give one of csv, none, tensorboard, wandb"):
        option_override("logger", "cvs")
