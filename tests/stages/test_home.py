import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from lessexp.data.rows import write_rows
from lessexp.stages.home import expand_home
from tests.conftest import make_rows
from tests.stages.conftest import SHRUNK, compose_from
from tests.test_run import ROOT


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LESSEXP_CACHE", raising=False)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_home_is_written_for_every_path_of_the_configuration_and_for_nothing_else(home):
    cfg = compose_from(
        *("selector=less_t", "selection_model=hf", "data=jsonl", "target=jsonl", "warmup=import", "logger=csv"),
        *(
            f'{key}="~/x"'
            for key in ("artifacts_dir", "model.path", "selection_model.path", "warmup.path", "target.path")
        ),
        'data.paths=["~/a","b~","./~/c"]',
        'logger.loggers.0.save_dir="~"',
        'model.name="~/x"',
    )
    expand_home(cfg)
    found = {key: OmegaConf.select(cfg, key) for key in ("artifacts_dir", "model.path", "selection_model.path")}
    found |= {key: OmegaConf.select(cfg, key) for key in ("warmup.path", "warmup.importer.path", "target.path")}
    found |= {"benchmark.path": cfg.benchmark.path}
    assert found == dict.fromkeys(found, f"{home}/x")
    assert cfg.cache_dir == f"{home}/.cache/lessexp"
    assert cfg.data.paths == [f"{home}/a", "b~", "./~/c"]
    assert cfg.logger.loggers[0].save_dir == str(home)
    assert cfg.model.name == "~/x"


@pytest.mark.parametrize("sweep", [False, True], ids=["run", "sweep"])
def test_the_folder_of_a_run_or_a_sweep_may_begin_with_home(home, model_folder, tmp_path, sweep):
    write_rows(home / "pool.jsonl", make_rows(24))
    write_rows(home / "target.jsonl", make_rows(5, prefix="target", target=True))
    places = ["artifacts_dir=~/art", "data.paths.0=~/pool.jsonl", "target.path=~/target.jsonl"]
    places.append("hydra.sweep.dir=~/runs (1)" if sweep else "hydra.run.dir=~/runs (1)/0")
    overrides = ["data.paths=[1]", *(f'{key}="{path}"' for key, path in (place.split("=") for place in places))]
    started = [sys.executable, str(ROOT / "run.py"), "--multirun" if sweep else "--run", "selector=random", "seed=0"]
    command = [*started, *SHRUNK, f"model.path={model_folder}", *overrides]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"{home}/runs (1)")
    assert (home / "runs (1)" / ("run" if sweep else "0") / "results.json").exists()
    assert list((home / "art").iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"home"}
