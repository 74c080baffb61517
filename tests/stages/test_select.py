import json
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow.parquet
import pytest
import torch

from lessexp.data.rows import Row, read_rows, write_rows
from lessexp.gradients.datastore import DatastoreWriter
from lessexp.gradients.manifest import Manifest
from lessexp.selection.base import Scores
from lessexp.stages import gradients, select, warmup
from lessexp.stages.configuration import ExperimentError
from lessexp.training.checkpoint import TrainerState
from tests.conftest import make_rows


@pytest.fixture
def selected(make_experiment):
    experiment = make_experiment()
    for stage in (warmup, gradients):
        stage.run(experiment)
    return experiment, select.run(experiment)


def test_scores_and_subset_agree(selected):
    experiment, record = selected
    table = pyarrow.parquet.read_table(experiment.run_folder / "scores.parquet").to_pydict()
    assert list(table) == ["example_id", "dataset", "score", "sums", "words"]
    assert table["example_id"] == experiment.pool.ids
    assert table["score"] == [max(pair) for pair in zip(table["sums"], table["words"], strict=True)]
    best = sorted(zip(table["score"], table["example_id"], strict=True), reverse=True)[:6]
    chosen = read_rows([experiment.run_folder / "selected.jsonl"])
    assert [row.example_id for row in chosen] == [example_id for _, example_id in best]
    assert {row.example_id: row for row in chosen}.items() <= {row.example_id: row for row in experiment.pool}.items()
    assert record["selection"]["n_selected"] == 6


def test_checkpoint_scores_sum_to_the_scores(selected):
    experiment, _ = selected
    scores = pyarrow.parquet.read_table(experiment.run_folder / "scores.parquet").to_pydict()
    parts = pyarrow.parquet.read_table(experiment.run_folder / "scores_by_checkpoint.parquet").to_pydict()
    assert parts["checkpoint"] == [1] * 24 + [2] * 24
    assert parts["example_id"] == scores["example_id"] * 2
    for subtask in ("sums", "words"):
        both = torch.tensor(parts[subtask]).view(2, 24).sum(0)
        torch.testing.assert_close(both, torch.tensor(scores[subtask]))


def write_directions(folder, ids, degrees, subtasks=None):
    """A store of one checkpoint whose rows are unit vectors of the plane, at these angles from the first axis."""
    manifest = Manifest(
        example_ids=ids,
        checkpoints=[1],
        proj_dim=2,
        dtype="float32",
        rows_per_shard=100,
        provenance={},
        subtasks=subtasks,
    )
    angles = torch.deg2rad(torch.tensor(degrees, dtype=torch.float32))
    writer = DatastoreWriter(Path(folder), manifest)
    writer.write_shard(1, 0, torch.stack([angles.cos(), angles.sin()], dim=1))
    writer.finish()


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [
        ("max_of_subtask_means", [0, 1, 2, 3, 4, 5]),
        ("mean", [6, 7, 8, 9, 10, 11]),
        ("round_robin", [0, 12, 1, 13, 2, 14]),
    ],
)
def test_the_aggregation_that_is_asked_for_selects(make_experiment, aggregate, expected):
    """The target's subtasks are the two axes; a row's cosines with them are cosine and sine of its angle."""
    experiment = make_experiment(f"aggregate={aggregate}")
    for_sums = [0.0, 1, 2, 3, 4, 5]
    for_both = [45.0, 46, 47, 48, 49, 50]
    for_words = [100.0, 101, 102, 103, 104, 105]
    for_none = [225.0, 226, 227, 228, 229, 230]
    pool = [row.example_id for row in experiment.pool]
    write_directions(experiment.cfg.paths.pool_gradients, pool, for_sums + for_both + for_words + for_none)
    subtasks = [row.subtask for row in experiment.target]
    axes = [{"sums": 0.0, "words": 90.0}[subtask] for subtask in subtasks]
    ids = [row.example_id for row in experiment.target]
    write_directions(experiment.cfg.paths.target_gradients, ids, axes, subtasks)
    checkpoint = Path(experiment.cfg.paths.warmup) / "epoch=1"
    checkpoint.mkdir(parents=True)
    state = TrainerState(epoch=1, step=3, betas=(0.9, 0.999), eps=1e-8, mean_learning_rate=1e-3, seed=0)
    (checkpoint / "trainer_state.json").write_text(json.dumps(asdict(state)))
    select.run(experiment)
    chosen = [row.example_id for row in read_rows([experiment.selected_file])]
    assert chosen == [f"row-{index:03d}" for index in expected]


def test_rows_with_nothing_to_learn_are_listed_and_never_selected(make_experiment, tmp_path):
    long = Row("sums", "long-000", (("user", "word " * 300), ("assistant", "yes")))
    write_rows(tmp_path / "longer.jsonl", [*make_rows(24), long])
    experiment = make_experiment(f"data.paths=[{tmp_path / 'longer.jsonl'}]", "selector=random", "fraction=1.0")
    record = select.run(experiment)
    excluded = pyarrow.parquet.read_table(experiment.run_folder / "excluded.parquet").to_pydict()
    assert excluded["example_id"] == ["long-000"]
    assert "max_length=200" in excluded["reason"][0]
    assert record["selection"]["n_selected"] == 24
    assert "long-000" not in {row.example_id for row in read_rows([experiment.run_folder / "selected.jsonl"])}


def test_rows_that_break_the_format_are_listed_by_file_and_line_if_they_are_skipped(make_experiment, tmp_path):
    pool = tmp_path / "odd.jsonl"
    write_rows(pool, make_rows(24))
    with pool.open("a") as file:
        file.write('{"id": "odd", "messages": []}\n{\n')
    given = [f"data.path={pool}", f"data.paths={pool}", "selector=random", "fraction=0.5", "data.on_bad_row=skip"]
    for below in (100, 5):
        experiment = make_experiment(*given, f"preparation.in_memory_below={below}", f"cache_dir={tmp_path / 'cache'}")
        record = select.run(experiment)
        excluded = pyarrow.parquet.read_table(experiment.run_folder / "excluded.parquet")
        assert excluded.column_names == ["example_id", "reason", "file", "line"]
        first, second = excluded.to_pylist()
        assert first["reason"] == "field 'messages' must be a non-empty list, it is []"
        assert (first["example_id"], first["file"], first["line"]) == ("odd", str(pool), 25)
        assert second["reason"].startswith("not valid JSON")
        assert (second["example_id"], second["file"], second["line"]) == (None, str(pool), 26)
        assert (record["selection"]["n_excluded"], record["selection"]["n_pool"]) == (2, 24)


def test_other_columns_of_the_pool_are_in_the_subset_as_they_were(make_experiment, tmp_path):
    records = [row.to_json() | {"stars": n, "meta": {"ü": [n, None]}} for n, row in enumerate(make_rows(24))]
    (tmp_path / "more.json").write_text(json.dumps(records, indent=1))
    given = ["selector=random", f"data.path={tmp_path / 'more.json'}", "data.paths=null"]
    experiment = make_experiment(*given)
    select.run(experiment)
    selected = [json.loads(line) for line in experiment.selected_file.read_text().splitlines()]
    assert len(selected) == 6 and all(record in records for record in selected)
    assert experiment.data_fingerprints["usable pool"] == make_experiment().data_fingerprints["usable pool"]


def test_copies_are_passed_over_and_listed(make_experiment, tmp_path):
    rows = make_rows(24)
    copies = [replace(row, example_id=f"copy-{row.example_id}") for row in rows[:6]]
    write_rows(tmp_path / "copied.jsonl", [*copies, *rows])
    given = [f"data.paths=[{tmp_path / 'copied.jsonl'}]", "selector=random", "fraction=0.8"]
    experiment = make_experiment(*given, "dedup=exact")
    record = select.run(experiment)
    chosen = read_rows([experiment.run_folder / "selected.jsonl"])
    assert len(chosen) == len({row.messages for row in chosen}) == 24
    excluded = pyarrow.parquet.read_table(experiment.run_folder / "excluded.parquet").to_pydict()
    assert record["selection"]["n_copies"] == len(excluded["example_id"]) == 6 - (30 - 24 - 6)
    for name, reason in zip(excluded["example_id"], excluded["reason"], strict=True):
        assert f"a copy of '{name.removeprefix('copy-')}'" in reason or f"a copy of 'copy-{name}'" in reason
    assert select.run(make_experiment(*given, run="with copies"))["selection"]["n_copies"] == 0


def test_a_subtask_that_takes_nearly_all_picks_is_pointed_out(make_experiment, monkeypatch, capsys):
    class Lopsided:
        def score(self, pool, target):
            values = torch.stack([torch.arange(len(pool)).float() + 1, torch.zeros(len(pool))], dim=1)
            return Scores([row.example_id for row in pool], ["sums", "words"], values)

    real = select.instantiate
    monkeypatch.setattr(select, "instantiate", lambda node: Lopsided() if "seed" in node else real(node))
    select.run(make_experiment("selector=random"))
    assert "100% of the selected rows score highest for 'sums', one of 2 subtasks" in capsys.readouterr().out


def test_a_pool_in_which_no_row_can_be_scored_is_refused_with_the_reason(make_experiment, monkeypatch):
    class NoneScored:
        def score(self, pool, target):
            reasons = {row.example_id: "its gradient is not finite at checkpoint 2" for row in pool}
            return Scores([], ["sums", "words"], torch.empty(0, 2), excluded=reasons)

    real = select.instantiate
    monkeypatch.setattr(select, "instantiate", lambda node: NoneScored() if "seed" in node else real(node))
    with pytest.raises(ExperimentError, match=r"none of the 24 pool rows .*'row-000': its gradient is not finite at"):
        select.run(make_experiment("selector=random"))


def test_rows_that_score_alike_for_all_subtasks_point_at_none(make_experiment, capsys):
    select.run(make_experiment("selector=random"))
    assert "score highest" not in capsys.readouterr().out


@pytest.mark.parametrize("shared", [False, True])
def test_texts_of_selected_rows_reach_trackers_only_if_asked(make_experiment, monkeypatch, shared):
    experiment = make_experiment("selector=random", f"logger.share_rows={shared}")
    experiment.loggers = [object()]
    given = {}
    for name in ("log_table", "log_figure", "log_file"):
        monkeypatch.setattr(f"lessexp.reports.tracking.{name}", lambda _, *what: given.update({what[0]: what[1:]}))
    select.run(experiment)
    assert set(given) - {"selected"} == {"composition", "scores"}
    chosen = read_rows([experiment.selected_file])
    if shared:
        assert given["selected"] == (experiment.selected_file,)  # logged last
    else:
        columns, lines = given["selected"]
        assert columns == ["example_id", "dataset", "score", "sums", "words"]
        assert [line[:2] for line in lines] == [[row.example_id, row.dataset] for row in chosen]
        assert not any(row.messages[0][1] in map(str, line) for row, line in zip(chosen, lines, strict=True))


def without_shared_words(make_experiment, tmp_path, pool, **settings):
    """What BM25 selects for a target of emojis."""
    pool_file, target_file = tmp_path / "shuffled.jsonl", tmp_path / "emojis.jsonl"
    write_rows(pool_file, pool)
    write_rows(target_file, [Row("e", "e-0", (("user", "🙂"), ("assistant", "👍")), task="e", subtask="e")])
    overrides = [f"{key}={value}" for key, value in settings.items()]
    experiment = make_experiment(
        "selector=bm25", f"data.paths=[{pool_file}]", f"target.path={target_file}", *overrides, run="ties"
    )
    select.run(experiment)
    return [row.example_id for row in read_rows([experiment.selected_file])]


def test_rows_without_a_score_of_their_own_are_drawn_by_the_seed_and_counted(make_experiment, tmp_path, capsys):
    pool = make_rows(24)
    chosen = without_shared_words(make_experiment, tmp_path, pool)
    assert "6 of the 6 selected rows have no score of their own" in capsys.readouterr().out
    assert set(chosen) != {row.example_id for row in pool[:6]}
    assert without_shared_words(make_experiment, tmp_path, pool[::-1]) == chosen
    assert set(without_shared_words(make_experiment, tmp_path, pool, seed=1)) != set(chosen)


@pytest.mark.parametrize("aggregate", ["round_robin", "balanced"])
def test_subtasks_that_take_turns_draw_equal_rows_by_the_seed(make_experiment, tmp_path, capsys, aggregate):
    pool = make_rows(24)
    chosen = without_shared_words(make_experiment, tmp_path, pool, aggregate=aggregate)
    assert "6 of the 6 selected rows have no score of their own" in capsys.readouterr().out
    assert without_shared_words(make_experiment, tmp_path, pool[::-1], aggregate=aggregate) == chosen


def test_rows_with_scores_of_their_own_are_not_said_to_be_tied(make_experiment, capsys):
    select.run(make_experiment("selector=random"))
    select.run(make_experiment("selector=full", "fraction=1", run="full"))
    assert "of their own" not in capsys.readouterr().out
