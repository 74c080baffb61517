import contextlib
import csv
import json
import os
import struct
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest
import wandb
from wandb.proto import wandb_internal_pb2 as pb

import lessexp.pipeline
from lessexp.reports import tracking
from lessexp.reports.selection_figures import ShownFigure
from tests.stages.conftest import SHRUNK, compose_config  # noqa: F401
from tests.test_run import places, run_py  # noqa: F401


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


KEY = "0123456789" * 4


class Answers(BaseHTTPRequestHandler):
    """As much of a W&B server as one run needs; ``server.fault`` says what goes wrong."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        match self.server.fault:
            case "refuses the key":
                self._answer(401, {"errors": [{"message": "user is not logged in"}]})
            case "hangs":
                self.server.closing.wait()
            case "fails":
                self._answer(500, {})
            case None:
                self._answer(200, {"data": self._data(json.loads(body)) if self.path == "/graphql" else {}})

    do_GET = do_PUT = do_POST

    def _data(self, asked):
        query = asked["query"]
        if "createRunFiles" in query:
            base = f"http://127.0.0.1:{self.server.server_port}"
            files = [{"name": name, "uploadUrl": f"{base}/{name}"} for name in asked["variables"]["files"]]
            return {"createRunFiles": {"runID": "id", "uploadHeaders": [], "files": files}}
        if "upsertBucket" in query:
            project = {"id": "id", "name": "toy", "entity": {"id": "id", "name": "me"}}
            return {"upsertBucket": {"bucket": {"id": "id", "name": "id", "project": project}, "inserted": True}}
        if "viewer" in query:
            return {"viewer": {"id": "id", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
        return {"serverInfo": {"features": []}}

    def _answer(self, code, content):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def fresh_wandb(monkeypatch, tmp_path):
    """W&B as a new program finds it, on a machine where nobody has logged in."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / ".netrc"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def server(fresh_wandb, monkeypatch):
    """A server on this machine, a key for it, and little patience."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.fault, server.closing = None, Event()
    thread = Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "1")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    yield server
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def warnings(caplog):
    """What users are told; W&B logs in much detail to files of its own."""
    caplog.set_level("WARNING")
    return lambda: [record.getMessage() for record in caplog.records if record.name == tracking.__name__]


def make_runs(folder, name="run"):
    return tracking.WandbRuns(project="toy", name=name, group="sweep", save_dir=str(folder))


def log_stages(make, *stages):
    for stage in stages:
        with tracking.tracked([make], stage=stage, settings={}) as loggers:
            tracking.log_metrics(loggers, {"score": 0.5})


def test_a_key_that_the_server_accepts_means_online(server, tmp_path, warnings):
    log_stages(make_runs(tmp_path), "select")
    assert not list(tmp_path.rglob("offline-run-*"))
    assert list(tmp_path.rglob("run-*.wandb"))
    assert not warnings()


@pytest.mark.parametrize("mode", [None, "online"])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [("refuses the key", "user is not logged in"), ("hangs", "in time"), ("fails", "in time")],
)
def test_a_server_that_takes_no_runs_is_told_of_once_and_all_stages_go_on_offline(
    server, monkeypatch, tmp_path, warnings, fault, reason, mode
):
    if mode:
        monkeypatch.setenv("WANDB_MODE", mode)
    server.fault = fault
    log_stages(make_runs(tmp_path), "select", "report")
    assert len(list(tmp_path.rglob("offline-run-*"))) == 2
    [message] = warnings()
    assert reason in message
    assert str(tmp_path / "wandb") in message
    assert KEY not in message


@pytest.mark.parametrize("stage_begun", [True, False], ids=["within a stage", "between stages"])
def test_a_server_that_is_lost_on_the_way_ends_no_run(server, tmp_path, warnings, stage_begun):
    make = make_runs(tmp_path)
    log_stages(make, "warmup")
    with (
        tracking.tracked([make], stage="gradients", settings={}) if stage_begun else contextlib.nullcontext(()) as begun
    ):
        server.fault = "fails"
        tracking.log_metrics(begun, {"score": 0.5})
    log_stages(make, "select", "report")
    assert len(warnings()) == 1
    assert len(list(tmp_path.rglob("offline-run-*"))) == 2


def test_without_a_key_runs_are_offline_and_nobody_is_asked_for_one(fresh_wandb, monkeypatch, tmp_path, warnings):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("W&B asked a question"))
    assert make_runs(tmp_path).mode == "offline"
    assert not warnings()


@pytest.mark.parametrize("mode", ["offline", "dryrun", "disabled"])
def test_a_mode_without_server_is_kept_whatever_the_key(server, monkeypatch, tmp_path, warnings, mode):
    monkeypatch.setenv("WANDB_MODE", mode)
    server.fault = "hangs"
    assert make_runs(tmp_path).mode == mode
    assert not warnings()


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"WANDB_MODE": "online"}, "WANDB_MODE=online needs a key; set WANDB_API_KEY"),
        ({"WANDB_MODE": "onlin"}, "W&B refuses its setting 'mode': .*'offline'.*; correct WANDB_MODE"),
        ({"WANDB_BASE_URL": "no address"}, "W&B refuses its setting 'base_url': .*valid URL.*; correct WANDB_BASE_URL"),
    ],
)
def test_variables_that_cannot_work_are_refused_before_any_stage(fresh_wandb, monkeypatch, tmp_path, variables, reason):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(tracking.TrackerError, match=f"^{reason}"):
        make_runs(tmp_path)
    assert not (tmp_path / "wandb").exists()


def test_a_whole_run_with_a_key_but_no_network_goes_on_offline_and_says_so_once(places, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.delenv("WANDB_MODE")
    options = [option for option in SHRUNK if not option.startswith("logger")]
    nobody_listens = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": KEY, "WANDB_HTTP_TIMEOUT": "1"}
    done = run_py(tmp_path / "out", *options, *places, WANDB_ERROR_REPORTING="false", **nobody_listens)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.count("W&B goes on offline") == 1
    assert len(list((tmp_path / "out" / "wandb").glob("offline-run-*"))) == 6


def test_online_without_a_key_is_refused_before_anything_is_read(tmp_path):
    done = run_py(tmp_path / "out", "model=llama2_7b", WANDB_MODE="online", WANDB_API_KEY="", HOME=str(tmp_path))
    assert done.stderr.splitlines() == [
        "Error: WANDB_MODE=online needs a key; set WANDB_API_KEY or run `wandb login`, or set WANDB_MODE=offline"
    ]


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


def test_offline_runs_need_no_account_and_carry_everything_for_a_later_sync(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("W&B asked a question"))
    subset = tmp_path / "selected.jsonl"
    subset.write_text("{}")
    with tracking.tracked([make_runs(tmp_path / "new")], stage="select", settings={}) as loggers:
        tracking.log_file(loggers, "selected", subset)
    log_something(make_runs(tmp_path / "new"))
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
        tracking.tracked([make_runs(tmp_path, name="n" * 200)], stage="select", settings={}),
    ):
        raise ZeroDivisionError
    wandb.teardown()
    [file] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert [record.exit.exit_code for record in records(file) if record.HasField("exit")] == [1]


def test_a_disabled_run_leaves_no_files(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    log_something(make_runs(tmp_path))
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


def test_a_run_that_is_killed_time_after_time_leaves_one_offline_run_a_stage(compose_config, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "run").mkdir()

    def killed(experiment):
        raise KeyboardInterrupt

    def offline_runs():
        return sorted(path.name for path in (tmp_path / "run" / "wandb").glob("offline-run-*"))

    cfg = ["selector=random", "logger=wandb"]
    for stage in ("select", "finetune", "finetune", "evaluate", "report", "evaluate"):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setitem(lessexp.pipeline.STAGES, stage, killed)
            lessexp.pipeline.run(compose_config(*cfg), tmp_path / "run")
    trained = [name for name in offline_runs() if "-finetune-" in name]
    lessexp.pipeline.run(compose_config(*cfg), tmp_path / "run")
    stages = [name.split("-")[-2] for name in offline_runs()]
    assert sorted(stages) == ["evaluate", "finetune", "report", "select"]
    assert [name for name in offline_runs() if "-finetune-" in name] == trained, "the one that holds the training"
