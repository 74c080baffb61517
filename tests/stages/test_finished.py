import pytest

from lessexp.pipeline import run
from lessexp.reports.results import read_results
from lessexp.stages.configuration import ExperimentError
from lessexp.stages.finished import settings_key


def test_the_key_differs_where_results_may_and_nowhere_else(compose_config):
    key = settings_key(compose_config())
    for override in ("seed=1", "proj_dim=256", "selector=random", "finetune.training.epochs=2", "chat_format=plain"):
        assert settings_key(compose_config(override)) != key
    for override in ("resume=true", "artifacts_dir=/elsewhere", "cache_dir=/other", "preparation.num_proc=1"):
        assert settings_key(compose_config(override)) == key


def test_a_finished_run_is_kept_if_asked_and_never_overwritten(compose_config, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    run(compose_config("selector=random"), folder)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert read_results(folder)["settings_key"] == settings_key(compose_config("selector=random"))
    with pytest.raises(ExperimentError, match=r"holds a finished run; .* or resume=true"):
        run(compose_config("selector=random"), folder)
    with pytest.raises(ExperimentError, match="holds a finished run of other settings"):
        run(compose_config("selector=random", "seed=1", "resume=true"), folder)
    monkeypatch.setattr("lessexp.pipeline.STAGES", {})  # nothing is left to do
    run(compose_config("selector=random", "resume=true"), folder)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
