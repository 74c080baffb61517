import csv

import pytest
import wandb
from pytorch_lightning.loggers import CSVLogger

from lessexp.reports import tracking


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
    tracking.wandb_logger(project="toy", name=None, group=None, save_dir=str(tmp_path))
    assert modes == [mode]


def log_something(logger):
    tracking.log_metrics([logger], {"metrics/score": 0.5})
    tracking.log_table([logger], "results", ["metric", "base"], [["score", 0.5]])
    tracking.close([logger], succeeded=True)


def test_an_offline_run_needs_no_account_and_leaves_its_metrics_and_table_in_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("W&B asked a question"))
    log_something(tracking.wandb_logger(project="toy", name="run", group="g", save_dir=str(tmp_path / "new")))
    wandb.teardown()  # as at the end of a program: W&B's own process may still be writing
    (run_folder,) = (tmp_path / "new" / "wandb").glob("offline-run-*")
    (run_file,) = run_folder.glob("*.wandb")
    assert b"metrics/score" in run_file.read_bytes()
    assert list((run_folder / "files" / "media" / "table").glob("results*.table.json"))
    assert wandb.run is None, "the run must be closed"


def test_a_disabled_run_leaves_no_files(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    log_something(tracking.wandb_logger(project="toy", name="run", group=None, save_dir=str(tmp_path)))
    assert not list(tmp_path.rglob("*.wandb"))


def test_other_loggers_get_the_metrics_and_are_spared_the_table(tmp_path):
    logger = CSVLogger(tmp_path)
    log_something(logger)
    with open(logger.experiment.metrics_file_path, newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["metrics/score"]) == 0.5
