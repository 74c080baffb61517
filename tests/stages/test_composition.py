import subprocess
import sys
import zipfile
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.version import VersionBase
from omegaconf import OmegaConf

from lessexp.stages import composition
from lessexp.stages.composition import (
    check_options,
    compose_config,
    conf_folder,
    cut_after,
    new_run_folder,
    options,
    quoted,
    write_settings,
    written_overrides,
)
from lessexp.stages.configuration import ExperimentError
from tests.stages.conftest import CONF, compose_from

ROOT = CONF.parent


def test_it_composes_what_the_command_line_composes():
    overrides = ["selector=bm25", "fraction=0.5"]
    assert compose_config(overrides) == compose_from(*overrides)


def test_quoted_values_arrive_as_they_are():
    texts = ["plain", "a b,c=[d]{e}", 'it\'s "quoted"', "back\\slash\\", "${seed}", "null", "ü: #1", ""]
    paths = ",".join(map(quoted, texts))
    assert list(compose_config(["data=jsonl", f"data.paths=[{paths}]"]).data.paths) == texts


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("nope=3", "Could not override 'nope'. To append to your config use +nope=3"),
        ("aggregate=best", "Available options in 'aggregate': balanced max_of_subtask_means mean round_robin"),
        ("seed=[", "no viable alternative|mismatched input"),
    ],
)
def test_an_override_that_cannot_be_is_one_sentence(override, message):
    with pytest.raises(ExperimentError) as caught:
        compose_config([override])
    assert any(part in str(caught.value) for part in message.split("|"))
    assert "\n" not in str(caught.value) and str(ROOT) not in str(caught.value)


@pytest.mark.parametrize("override", ["seed=1", "nope=3"])
def test_the_hydra_of_a_notebook_stays_as_it_is(tmp_path, override):
    (tmp_path / "theirs.yaml").write_text("name: ${hydra:job.name}\n")
    with initialize_config_dir(str(tmp_path), job_name="theirs", version_base="1.2"):
        before, hydra = GlobalHydra.instance(), GlobalHydra.instance().hydra
        try:
            compose_config([override])
        except ExperimentError:
            assert override == "nope=3"
        assert GlobalHydra.instance() is before and before.hydra is hydra
        assert str(VersionBase.instance().getbase()) == "1.2"
        assert compose("theirs", return_hydra_config=True).hydra.job.name == "theirs"


def test_without_a_hydra_there_is_none_afterwards():
    compose_config([])
    assert not GlobalHydra.instance().is_initialized()


def test_options_are_the_files_of_a_group():
    assert options("logger") == ["csv", "none", "tensorboard", "wandb"]


def test_new_run_folders_differ_within_a_second(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = new_run_folder()
    assert first.is_relative_to(tmp_path / "outputs") and not list(first.iterdir())
    assert new_run_folder() != first


def test_stages_after_the_last_that_is_wanted_are_cut():
    cfg = compose_config([])
    cut_after(cfg, "select")
    assert cfg.selector.stages == ["warmup", "gradients", "select"]


def test_settings_are_written_as_hydra_writes_them(tmp_path):
    assert written_overrides(tmp_path) is None
    cfg = compose_config(["seed=7"])
    write_settings(cfg, ["seed=7"], tmp_path)
    assert written_overrides(tmp_path) == ["seed=7"]
    assert OmegaConf.load(tmp_path / ".hydra" / "config.yaml") == cfg


def test_an_installed_package_has_its_options_inside(tmp_path, monkeypatch):
    assert conf_folder() == CONF
    monkeypatch.setattr(composition, "_PACKAGE", tmp_path)
    (tmp_path / "conf").mkdir()
    assert conf_folder() == tmp_path / "conf"


@pytest.mark.slow
def test_a_wheel_carries_every_option_and_nothing_outside_its_packages(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    for name in ("lessexp", "baselines", "conf"):
        copytree(ROOT / name, tmp_path / "copy" / name, ignore=ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        copy(ROOT / name, tmp_path / "copy")
    build = "from setuptools import build_meta; build_meta.build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path / "copy", check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    names = {Path(name) for name in zipfile.ZipFile(wheel).namelist()}
    carried = {name.relative_to("lessexp/conf") for name in names if name.is_relative_to("lessexp/conf")}
    assert carried == {file.relative_to(CONF) for file in CONF.rglob("*.yaml")}
    assert {name.parts[0] for name in names} == {"lessexp", "baselines", "lessexp-0.1.0.dist-info"}


@pytest.mark.parametrize("value", ["null", "3", "{a:1}", "'a\0b'"])
def test_a_group_that_is_given_no_option_is_refused_and_its_options_listed(value):
    with pytest.raises(
        ExperimentError, match=r"^['\"]aggregate=.* names no option; give aggregate one of balanced, max_of"
    ):
        check_options([f"aggregate={value}"])


@pytest.mark.parametrize(
    "override", ["aggregate=mean", "seed=null", "aggregate=[", "+experiment=real_mini", "-m", "a.b=1"]
)
def test_other_overrides_are_left_to_hydra(override):
    check_options([override])
