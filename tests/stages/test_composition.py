import shlex
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
from lessexp.stages.command_line import checked_arguments
from lessexp.stages.composition import (
    Command,
    compose_config,
    conf_folder,
    new_run_folder,
    options,
    parsed,
    quoted,
    read_settings,
    write_settings,
    written_overrides,
)
from lessexp.stages.configuration import ExperimentError
from lessexp.stages.credentials import CredentialError
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
    ("overrides", "message"),
    [
        (["nope=3"], "nope is not a setting; python run.py --cfg job shows all settings"),
        (["fracton=0.1"], "fracton is not a setting; did you mean fraction?"),
        (
            ["warmup.epochs=1"],
            "warmup.epochs is not a setting; did you mean warmup.training.epochs or finetune.training.",
        ),
        (
            ["hydra.sweeps.dir=x"],
            "hydra.sweeps.dir is not a setting; did you mean hydra.sweep.dir or hydra.run.dir? '+",
        ),
        (
            ["data.families.leg_counting={}"],
            "data.families.leg_counting does not exist yet; write '+data.families.leg_co",
        ),
        (
            ["aggregate=best"],
            "aggregate=best is not an option; give one of balanced, max_of_subtask_means, mean, round_robin",
        ),
        (["selector=lesss"], "selector=lesss is not an option; did you mean less? The options are bm25, dsir"),
        (["selector="], "selector= is not an option; give one of bm25"),
        (["+seed=1"], "seed exists; write seed=... without the plus sign"),
        (["+selector=random"], "selector is given twice; write selector=... once, without a plus sign"),
        (["data/columns=messages"], "data/columns is a part of data=hf; choose that, too"),
        (["~nope"], "Could not delete from config. 'nope' does not exist."),
        (["target=[mmlu,bbh]"], "Error resolving interpolation '${target}'"),
        (["aggregate=null"], "'aggregate=null' names no option; give aggregate one of balanced, max_of"),
        (["aggregate=3"], "'aggregate=3' names no option; give aggregate one of balanced"),
        (["aggregate={a:1}"], "'aggregate={a:1}' names no option; give aggregate one of"),
        (["aggregate='a\0b'"], "names no option; give aggregate one of"),
        (["seed"], "'seed' sets nothing; write KEY=VALUE, as in seed=1"),
        (["seed=f(x"], "the value of seed has signs that mean something to Hydra; write it in quotes: 'seed=\"f(x\"'"),
        (["cache_dir=/a(b)"], "the value of cache_dir has signs that mean something to Hydra; write it in quotes: "),
        (["data=jsonl", "data.paths=[/a (1).jsonl,b]"], 'write it in quotes: \'data.paths=["/a (1).jsonl","b"]\''),
    ],
)
def test_an_override_that_cannot_be_is_one_sentence_with_what_to_write(overrides, message):
    with pytest.raises(ExperimentError) as caught:
        compose_config(overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value) and str(ROOT) not in str(caught.value)


def test_settings_that_an_options_file_leaves_out_can_be_set_all_the_same(tmp_path, monkeypatch):
    copytree(CONF, tmp_path / "conf")
    monkeypatch.setattr(composition, "_PACKAGE", tmp_path)
    source = "{_target_: lessexp.models.source.HubSnapshot, repo_id: Qwen/Qwen3-0.6B, revision: null}"
    (tmp_path / "conf" / "model" / "short.yaml").write_text(f"name: short\nsource: {source}\n")
    (tmp_path / "conf" / "recipe" / "short.yaml").write_text("defaults: [paper]\n")
    cfg = compose_config(["model=short", "model.path=here", "model.dtype=float32"])
    assert (cfg.model.path, cfg.model.dtype) == ("here", "float32")
    with pytest.raises(ExperimentError, match=r"model.pth is not a setting; did you mean model.path\?"):
        compose_config(["model=short", "model.path=here", "model.pth=there"])
    arguments = ["model=short", "model.path=here", "seed=1"]
    assert checked_arguments(arguments) == ["model=short", "++model.path=here", "seed=1"]
    swept = checked_arguments(["-m", "model=short", "model.quantization=null,int8"])
    assert swept[:3] == ["-m", "model=short", "++model.quantization=null,int8"]


@pytest.mark.parametrize("sign", list("=()#&;!~ü<>'\"\\ ,[]{}:$"))
def test_the_spelling_that_is_named_works(sign):
    """A path with any sign is either read as it is or refused with a spelling that is read as that path."""
    path = f"/data/a{sign}b/pool.jsonl"
    try:
        assert parsed(f"cache_dir={path}").value() == path or sign == ","  # values of a sweep
    except ExperimentError as error:
        [spelling] = shlex.split(str(error).partition("in quotes: ")[2])
        assert compose_config([spelling]).cache_dir == path


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


def test_settings_are_written_as_hydra_writes_them(tmp_path, monkeypatch):
    assert written_overrides(tmp_path) is None
    monkeypatch.setenv("PLACE", "/hushed")
    given = ("seed=7", "cache_dir=${oc.env:PLACE}")
    cfg, command = compose_config(given), Command(given, OmegaConf.create({"hydra": {"verbose": True}}))
    write_settings(cfg, command, tmp_path)
    assert written_overrides(tmp_path) == list(given)
    assert read_settings(tmp_path) == (cfg, command)
    assert {file.name for file in (tmp_path / ".hydra").iterdir()} == {"config.yaml", "overrides.yaml", "hydra.yaml"}
    write_settings(cfg, Command(), tmp_path)
    assert read_settings(tmp_path) == (cfg, Command())


def test_settings_that_hold_a_token_leave_those_of_before(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "local-0123456789")
    write_settings(OmegaConf.create({"seed": 1}), Command(), tmp_path)
    with pytest.raises(CredentialError, match=r"^a holds a key or token"):
        write_settings(OmegaConf.create({"a": "local-0123456789"}), Command(), tmp_path)
    with pytest.raises(CredentialError, match=r"^\+a holds a key or token"):
        write_settings(OmegaConf.create({}), Command(("+a=local-0123456789",)), tmp_path)
    assert read_settings(tmp_path) == (OmegaConf.create({"seed": 1}), Command())


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
