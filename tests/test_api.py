import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
from datasets import Dataset
from matplotlib.figure import Figure

import lessexp
from lessexp.data.rows import RowError, read_rows
from lessexp.data.target import EmptyTargetError
from lessexp.errors import UserError
from lessexp.models.source import ModelUnavailableError
from lessexp.pipeline import run
from lessexp.stages.configuration import ExperimentError
from tests.conftest import make_rows
from tests.stages.conftest import SHRUNK, compose_config  # noqa: F401  (a fixture)

ROWS = make_rows(24)
POOL = [row.to_json() for row in ROWS]
TARGET = [row.to_json() for row in make_rows(5, prefix="target", target=True)]
SMALL = [override for override in SHRUNK if override.split("=")[0] not in ("model", "data", "target", "fraction")]


def stage_record(folder, stage):
    return json.loads((folder / "stages" / f"{stage}.json").read_text())


def reused(selection):
    records = [stage_record(selection.folder, stage) for stage in ("warmup", "gradients")]
    return [artifact["reused"] for record in records for artifact in record["artifacts"].values()]


@pytest.fixture
def select(tmp_path, model_folder):
    """`lessexp.select` on the tiny model, a quarter of 24 rows unless told otherwise."""

    def make(pool=POOL, target=TARGET, *overrides, **arguments):
        arguments = {"model": model_folder, "fraction": 0.25, "folder": "selection"} | arguments
        if arguments["folder"]:
            arguments["folder"] = tmp_path / arguments["folder"]
        overrides = [*SMALL, f"artifacts_dir={tmp_path / 'artifacts'}", *overrides]
        return lessexp.select(pool=pool, target=target, overrides=overrides, **arguments)

    return make


def test_files_lists_and_datasets_give_what_run_py_selects_and_reuse_what_that_has_built(
    compose_config,  # noqa: F811
    select,
    tmp_path,
):
    (tmp_path / "run").mkdir()
    run(compose_config(), tmp_path / "run")
    selected = [row.example_id for row in read_rows([tmp_path / "run" / "selected.jsonl"])]
    scores = pyarrow.parquet.read_table(tmp_path / "run" / "scores.parquet").to_pydict()
    given = {
        "files": (str(tmp_path / "pool.jsonl"), tmp_path / "target.jsonl"),
        "lists": (POOL, TARGET),
        "datasets": (Dataset.from_list(POOL), Dataset.from_list(TARGET)),
    }
    for folder, (pool, target) in given.items():
        selection = select(pool, target, folder=folder)
        assert reused(selection) == [True, True, True]
        assert (selection.ids, selection.scores.to_dict()) == (selected, scores)
        assert not {"predictions.jsonl", "adapter"} & {file.name for file in selection.folder.iterdir()}
    assert (tmp_path / "lists" / "pool.jsonl").is_file() and not (tmp_path / "files" / "pool.jsonl").exists()


def test_the_subset_is_the_best_rows_of_the_pool_in_the_order_of_their_scores(select):
    selection = select(selector="random")
    score_of = dict(zip(selection.scores["example_id"], selection.scores["score"], strict=True))
    assert list(score_of) == [row["id"] for row in POOL]
    assert selection.ids == sorted(score_of, key=lambda name: -score_of[name])[:6]
    assert selection.scores.column_names == ["example_id", "dataset", "score", "sums", "words"]
    row_of = {row["id"]: row for row in POOL}
    assert selection.subset.to_list() == [row_of[name] for name in selection.ids]
    assert list(selection.pool) == ROWS
    assert repr(selection) == f"Selection(6 of 24 rows, folder='{selection.folder}')"


def test_neither_a_benchmark_nor_enough_rows_to_train_on_is_needed(select):
    selection = select(POOL, TARGET, "benchmark.path=/nowhere", fraction=0.05, selector="random")
    assert len(selection.ids) == 1 < 4  # finetune.training.batch_size


def test_rows_that_are_not_scored_are_listed_with_the_reason(select):
    long = POOL[3] | {"messages": [{"role": "user", "content": "word " * 300}, POOL[3]["messages"][1]]}
    selection = select([*POOL[:3], long, *POOL[4:]], selector="random")
    assert list(selection.excluded) == [long["id"]]
    assert "max_length" in selection.excluded[long["id"]]
    assert long["id"] not in selection.scores["example_id"]
    assert len(selection.pool) == 24


def test_messages_are_enough_in_files_of_any_form_and_other_columns_come_along(select, tmp_path):
    pool = [{"messages": row["messages"], "stars": n, "mixed": [n, "n"][n % 2]} for n, row in enumerate(POOL)]
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "pool.json").write_text(json.dumps(pool, indent=1))
    (tmp_path / "rows.target.jsonl").write_text("".join(json.dumps({"messages": r["messages"]}) + "\n" for r in TARGET))
    forms = [tmp_path / "rows", str(tmp_path / "rows" / "*"), [tmp_path / "rows" / "pool.json"], pool]
    for number, given in enumerate(forms):
        selection = select(given, str(tmp_path / "rows.tar*"), selector="random", folder=f"selection-{number}")
        start = 0 if given is pool else 1
        assert all(row["id"] == f"pool-{row['stars'] + start}" for row in selection.subset)
        assert selection.subset.column_names == ["dataset", "id", "messages", "stars", "mixed"]
        assert all(row["mixed"] in (json.dumps(row["stars"]), '"n"') for row in selection.subset)
        assert selection.scores.column_names == ["example_id", "dataset", "score", "rows.target"]


@pytest.mark.parametrize("in_file", [True, False])
def test_rows_that_break_the_format_stop_or_are_skipped_by_file_and_line(select, tmp_path, in_file):
    bad = [{"id": "odd", "messages": [{"role": "tool", "content": "3"}]}, None, POOL[0]]
    given = [*POOL[:5], *bad, *POOL[5:]]
    if in_file:
        given = tmp_path / "given.jsonl"
        given.write_text("".join(json.dumps(row) + "\n" for row in [*POOL[:5], *bad, *POOL[5:]]))
    with pytest.raises(RowError, match=r"unknown role 'tool'.*data.on_bad_row=skip.* leaves such rows out$"):
        select(given, selector="random")
    selection = select(given, TARGET, "data.on_bad_row=skip", selector="random", folder="skipping")
    file = given if in_file else selection.folder / "pool.jsonl"
    assert list(selection.excluded) == [f"{file}, line {number}" for number in (6, 7, 8)]
    assert [reason.split(";")[0] for reason in selection.excluded.values()] == [
        "unknown role 'tool'",
        "a row must be a JSON object, it is NoneType",
        "id 'row-000' was already used by an earlier row",
    ]
    assert len(selection.pool) == 24


def test_without_a_folder_every_call_gets_a_new_one_among_the_outputs(select, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [select(selector="random", folder=None).folder for _ in range(2)]
    assert folders[0] != folders[1]
    assert all(folder.is_relative_to(tmp_path / "outputs") for folder in folders)
    assert (folders[0] / ".hydra" / "config.yaml").is_file()


def test_the_same_call_may_go_into_the_same_folder_again_but_no_other(select):
    first = select(selector="random")
    assert select(selector="random").ids == first.ids
    with pytest.raises(ExperimentError, match="holds a selection with other settings; give another folder"):
        select(selector="random", seed=1)


def test_the_logger_of_a_notebook_writes_into_the_run_folder(select):
    selection = select(POOL, TARGET, "logger=csv", "warmup.training.epochs=1")
    assert (selection.folder / "csv" / "warmup" / "metrics.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"model": "smollm"},
            ExperimentError,
            "model='smollm' is neither one of hf, .*smollm2_135m, nor a",
        ),
        ({"selector": "lesss"}, ExperimentError, "selector='lesss' does not exist; give one of bm25, .*less"),
        ({"target": []}, EmptyTargetError, "target holds no row; give at least one example"),
        ({"pool": []}, ExperimentError, "pool holds no row"),
        (
            {"pool": [{"text": "2 and 2"}]},
            RowError,
            r"pool\[0\]: there is no column 'messages'; the columns are text; give each row 'messages'; overrides=",
        ),
        ({"fraction": 0}, ExperimentError, "fraction should be greater than 0, got 0"),
        ({"selector": "full"}, ExperimentError, "fraction=0.25 was asked for, but selector and overrides make it 1.0"),
    ],
)
def test_what_cannot_work_is_one_sentence(select, arguments, error, message):
    with pytest.raises(UserError, match=message) as caught:
        select(**arguments)
    assert caught.type is error
    assert "\n" not in str(caught.value)


def test_a_single_string_of_overrides_is_refused(model_folder):
    with pytest.raises(ExperimentError, match=r"give overrides=\['seed=1'\]"):
        lessexp.select(model_folder, [], [], fraction=0.5, overrides="seed=1")


def test_a_model_of_the_hub_that_cannot_be_fetched_is_named(select, monkeypatch):
    def offline(*_, **__):
        raise OSError

    monkeypatch.setattr("lessexp.models.source.snapshot_download", offline)
    with pytest.raises(ModelUnavailableError, match=r"could not fetch the model 'Qwen/Qwen3-0\.6B'"):
        select(model="Qwen/Qwen3-0.6B")


def test_the_plots_are_matplotlib_figures_of_all_rows(select):
    selection = select(selector="length")
    figures = [selection.composition_figure(), selection.score_figure(), selection.length_figure()]
    assert all(isinstance(figure, Figure) for figure in figures)
    shares, rows, points = (figure.axes[0] for figure in figures)
    assert [bar.get_width() for bar in shares.containers[0]] == [50, 50]
    assert [sum(bar.get_height() for bar in bars) for bars in rows.containers] == [24, 6]
    assert [len(dots.get_offsets()) for dots in points.collections] == [18, 6]
    # This selector's score is the length.
    assert all(np.array_equal(*dots.get_offsets().T) for dots in points.collections)


def test_importing_the_package_imports_nothing_that_takes_long():
    code = "import sys, lessexp; assert not {'torch', 'datasets', 'hydra'} & set(sys.modules); lessexp.__version__"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'selected'"):
        lessexp.selected  # noqa: B018
