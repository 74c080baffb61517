import json
import shutil
from functools import partialmethod
from pathlib import Path

import pytest

import lessexp.pipeline
from lessexp.data.rows import write_rows
from lessexp.pipeline import run
from lessexp.reports.results import read_results
from lessexp.stages.configuration import ExperimentError, settings_key
from tests.conftest import make_rows
from tests.test_run import contents

RANDOM = ("selector=random", "evaluation.bootstrap.n_resamples=10")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def finished(compose_config, folder):
    """A finished run's folder."""
    run(compose_config(*RANDOM), folder)
    return folder


def test_a_finished_run_is_kept_if_asked_and_never_overwritten(compose_config, finished, monkeypatch):
    before = contents(finished)
    assert read_results(finished)["settings_key"] == settings_key(compose_config(*RANDOM))
    with pytest.raises(ExperimentError, match=r"holds a finished run; .* or resume=true"):
        run(compose_config(*RANDOM), finished)
    with pytest.raises(ExperimentError, match="holds a finished run of other settings"):
        run(compose_config(*RANDOM, "seed=1", "resume=true"), finished)
    monkeypatch.setattr("lessexp.pipeline.STAGES", {})  # nothing is left to do
    run(compose_config(*RANDOM, "resume=true"), finished)
    assert contents(finished) == before


class Killed(BaseException):
    """The end of a process at some moment."""


def test_a_run_killed_before_any_of_its_last_writes_is_unfinished_and_completed(compose_config, folder, monkeypatch):
    replace, names = Path.replace, []

    def dying(partial, target, *, last):
        if names or target.name == "evaluate.json":
            names.append(target.name)
        if len(names) == last:
            raise Killed
        replace(partial, target)

    for last in range(1, 6):
        names.clear()
        monkeypatch.setattr(Path, "replace", partialmethod(dying, last=last))
        with pytest.raises(Killed):
            run(compose_config(*RANDOM, "resume=true"), folder)
        assert not (folder / "results.json").exists(), names
    assert names == ["evaluate.json", "target.jsonl", "report.html", "report.json", "results.json"]
    monkeypatch.undo()
    run(compose_config(*RANDOM, "resume=true"), folder)
    found = {path.relative_to(folder).as_posix() for path in contents(folder)}
    assert set(read_results(folder)["files"]) == found - {"results.json", "settings_key.json", ".lock"} - {
        name for name in found if name.startswith(".hydra/")
    }
    assert {"target.jsonl", "report.html", "stages/report.json", "adapter/adapter_config.json"} <= found


@pytest.mark.parametrize(
    ("file", "changed"),
    [("pool.jsonl", "the usable pool"), ("target.jsonl", "the target, the test rows"), ("model", "the model")],
)
def test_a_finished_run_is_not_kept_for_other_content_at_the_same_place(
    compose_config, tmp_path, folder, model_folder, file, changed
):
    shutil.copytree(model_folder, tmp_path / "model")
    settings = [*RANDOM, f"model.path={tmp_path / 'model'}"]
    run(compose_config(*settings), folder)
    before = contents(folder)
    cfg = compose_config(*settings, "resume=true")
    if file == "model":
        written = tmp_path / "model" / "generation_config.json"
        written.write_text(json.dumps(json.loads(written.read_text()) | {"note": 1}))
    else:
        write_rows(tmp_path / file, make_rows(26, target=file == "target.jsonl")[2:])
    with pytest.raises(ExperimentError) as refused:
        run(cfg, folder)
    assert str(refused.value) == (
        f"{folder} holds a finished run, but what it read has changed since: {changed}; set hydra.run.dir "
        "(hydra.sweep.dir in a sweep) to another folder"
    )
    assert contents(folder) == before


def test_a_finished_run_that_wrote_down_no_content_is_kept(compose_config, finished):
    results = read_results(finished)
    for name in ("data", "models", "files", "settings", "overrides"):
        del results[name]
    (finished / "results.json").write_text(json.dumps(results))
    before = contents(finished)
    run(compose_config(*RANDOM, "resume=true"), finished)
    assert contents(finished) == before


@pytest.mark.parametrize(
    "name", ["selected.jsonl", "adapter/adapter_model.safetensors", "report.html", "stages/evaluate.json"]
)
def test_a_finished_run_whose_files_are_gone_or_damaged_is_done_again(compose_config, finished, capsys, name):
    before = contents(finished)
    with (finished / name).open("r+b") as file:
        file.write(b"x")
    run(compose_config(*RANDOM, "resume=true"), finished)
    assert f"missing or has changed: {name}; the run is done again" in capsys.readouterr().out
    if "adapter" in name or name == "selected.jsonl":
        assert (finished / name).read_bytes() == before[finished / name]
    (finished / name).unlink()
    run(compose_config(*RANDOM, "resume=true"), finished)
    assert (finished / name).is_file()
    capsys.readouterr()
    run(compose_config(*RANDOM, "resume=true"), finished)
    assert "is finished and stays as it is" in capsys.readouterr().out


def test_an_unfinished_run_is_gone_on_with_by_its_own_settings_alone(compose_config, folder, monkeypatch):
    def killed(experiment):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setitem(lessexp.pipeline.STAGES, "finetune", killed)
        with pytest.raises(Killed):
            run(compose_config(), folder)
    assert (folder / "scores_by_checkpoint.parquet").exists()
    before = contents(folder)
    with pytest.raises(ExperimentError, match=r"holds an unfinished run of other settings; set hydra\.run\.dir"):
        run(compose_config(*RANDOM), folder)
    assert contents(folder) == before
    run(compose_config("device=cpu"), folder)
    assert read_results(folder)["selector"] == "less"


def test_a_command_that_was_refused_before_its_first_stage_may_be_corrected(compose_config, folder, tmp_path):
    with pytest.raises(FileNotFoundError):
        run(compose_config(*RANDOM, "data.paths=[/nowhere.jsonl]"), folder)
    assert not (folder / "stages").exists() and (folder / ".hydra" / "config.yaml").exists()
    run(compose_config(*RANDOM), folder)
    assert read_results(folder)["settings"]["data"]["paths"] == [str(tmp_path / "pool.jsonl")]
