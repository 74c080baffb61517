import csv
import json
import struct
from functools import partial
from pathlib import Path

import pytest
import wandb
from wandb.proto import wandb_internal_pb2 as pb

from lessexp.reports import tracking
from lessexp.reports.selection_figures import ShownFigure


def test_flat_metrics_name_nested_numbers_by_path_and_leave_the_rest_out():
    record = {
        "metrics": {"score": {"base": {"mean": 1, "by_subtask": {"a/b": 0.5}}}},
        "reused": True,
        "precision": None,
        "name": "less",
        "ids": [1, 2],
    }
    assert tracking.flat_metrics(record) == {
        "metrics/score/base/mean": 1.0,
        "metrics/score/base/by_subtask/a/b": 0.5,
        "reused": 1.0,
    }


@pytest.mark.parametrize(
    ("environment", "has_key", "mode"),
    [(None, False, "offline"), (None, True, "online"), ("disabled", True, "disabled"), ("offline", True, "offline")],
)
def test_mode_is_the_environments_or_offline_unless_a_key_is_set_up(environment, has_key, mode, monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if environment is not None:
        monkeypatch.setenv("WANDB_MODE", environment)

    def login(*, prompt):
        assert not prompt, "nobody may be there to answer"
        return has_key

    modes = []
    monkeypatch.setattr(wandb, "login", login)
    monkeypatch.setattr(wandb, "setup", lambda settings: None)
    monkeypatch.setattr(wandb, "init", lambda *, mode, **_: modes.append(mode))
    tracking.wandb_logger(stage="select", project="toy", name=None, group=None, save_dir=str(tmp_path))
    assert modes == [mode]


def records(file: Path) -> list[pb.Record]:
    """What an offline run keeps for ``wandb sync``: LevelDB's log format, 32 KiB blocks after 7 bytes of header."""
    data, at, part, found = file.read_bytes(), 7, b"", []
    while at < len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        part += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            found.append(pb.Record.FromString(part))
            part = b""
    return found


def history(read: list[pb.Record]) -> dict[str, object]:
    items = [item for record in read if record.HasField("history") for item in record.history.item]
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def log_something(make, stage="evaluate"):
    with tracking.tracked([make], stage=stage, settings={"overrides": {"proj_dim": "512"}}) as loggers:
        tracking.log_metrics(loggers, {"metrics/score": 0.5})
        tracking.log_table(loggers, "results", ["metric", "base"], [["score", 0.25]])
        tracking.log_figure(loggers, "shares", ShownFigure(figsize=(1, 1)))


def wandb_run(folder, name="run"):
    return partial(tracking.wandb_logger, project="toy", name=name, group="sweep", save_dir=str(folder))


def test_offline_runs_need_no_account_and_carry_everything_for_a_later_sync(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("W&B asked a question"))
    subset = tmp_path / "selected.jsonl"
    subset.write_text("{}")
    with tracking.tracked([wandb_run(tmp_path / "new")], stage="select", settings={}) as loggers:
        tracking.log_file(loggers, "selected", subset)
    log_something(wandb_run(tmp_path / "new"))
    wandb.teardown()  # as at the end of a program: W&B's own process may still be writing
    runs = [records(file) for file in sorted((tmp_path / "new" / "wandb").glob("offline-run-*/*.wandb"))]
    heads = [next(record.run for record in read if record.HasField("run")) for read in runs]
    by_stage = {head.job_type: read for head, read in zip(heads, runs, strict=True)}
    assert set(by_stage) == {"select", "evaluate"}
    assert {(head.run_group, head.display_name, head.project) for head in heads} == {("sweep", "run", "toy")}
    assert [record.artifact.type for record in by_stage["select"] if record.HasField("artifact")] == ["subset"]
    read = by_stage["evaluate"]
    assert history(read)["metrics/score"] == 0.5
    config = {entry.key: entry.value_json for record in read for entry in record.config.update}
    assert json.loads(config["overrides"]) == {"proj_dim": "512"}
    [table] = (tmp_path / "new" / "wandb").rglob("results*.table.json")
    assert json.loads(table.read_text()) == {"columns": ["metric", "base"], "data": [["score", 0.25]]}
    assert list((tmp_path / "new" / "wandb").rglob("shares*.png"))
    assert wandb.run is None, "the run must be closed"


def test_a_stage_that_fails_is_marked_as_failed(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "offline")
    with (
        pytest.raises(ZeroDivisionError),
        tracking.tracked([wandb_run(tmp_path, name="n" * 200)], stage="select", settings={}),
    ):
        raise ZeroDivisionError
    wandb.teardown()
    [file] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert [record.exit.exit_code for record in records(file) if record.HasField("exit")] == [1]


def test_a_disabled_run_leaves_no_files(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    log_something(wandb_run(tmp_path))
    assert not list(tmp_path.rglob("*.wandb"))


def test_other_loggers_get_the_metrics_by_stage_and_are_spared_the_rest(tmp_path):
    for stage in ("finetune", "evaluate"):
        log_something(partial(tracking.csv_logger, save_dir=str(tmp_path)), stage=stage)
    for stage in ("finetune", "evaluate"):
        with (tmp_path / "csv" / stage / "metrics.csv").open(newline="") as file:
            (row,) = csv.DictReader(file)
        assert float(row["metrics/score"]) == 0.5


def test_tensorboard_gets_metrics_and_figures_by_stage(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log_something(partial(tracking.tensorboard_logger, save_dir=str(tmp_path)))
    events = reader.EventAccumulator(str(tmp_path / "tensorboard" / "evaluate")).Reload()
    assert [event.value for event in events.Scalars("metrics/score")] == [0.5]
    assert events.Tags()["images"] == ["shares"]


def test_without_tensorboard_the_error_says_what_to_install(monkeypatch, tmp_path):
    def missing(*args, **kwargs):
        raise ModuleNotFoundError("neither tensorboard nor tensorboardX")

    monkeypatch.setattr(tracking, "TensorBoardLogger", missing)
    with pytest.raises(tracking.TrackerError, match=r"pip install 'lessexp\[tensorboard\]'"):
        tracking.tensorboard_logger(stage="select", save_dir=str(tmp_path))
