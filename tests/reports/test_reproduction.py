import shlex

import pytest
import yaml

from lessexp.reports.reproduction import read_reproduction, without_secret, without_secrets


def write_hydra(folder, overrides, config, *, name="config", sources=()):
    (folder / ".hydra").mkdir()
    hydra = {"hydra": {"job": {"config_name": name}, "runtime": {"config_sources": list(sources)}}}
    for file, content in {"overrides": overrides, "config": config, "hydra": hydra}.items():
        (folder / ".hydra" / f"{file}.yaml").write_text(yaml.safe_dump(content))


def test_the_command_is_what_a_shell_understands(tmp_path):
    overrides = ["selector=less", "data.paths=[a b.jsonl,c.jsonl]", "text='$HOME'"]
    write_hydra(tmp_path, overrides, {"seed": 0})
    how = read_reproduction(tmp_path, {})
    assert shlex.split(how.command) == ["python", "run.py", *overrides]
    assert yaml.safe_load(how.config) == {"seed": 0}


def test_another_configuration_is_named_with_its_folder(tmp_path):
    sources = [
        {"path": "/code/conf", "provider": "main"},
        {"path": "/code/sweeps", "provider": "command-line"},
    ]
    write_hydra(tmp_path, ["seed=1"], {}, name="selectors_demo", sources=sources)
    assert read_reproduction(tmp_path, {}).command == "python run.py -cd /code/sweeps -cn selectors_demo seed=1"


def test_a_run_that_hydra_did_not_start_has_no_command(tmp_path):
    assert read_reproduction(tmp_path, {}) is None


def test_what_results_hold_goes_before_what_a_later_command_wrote(tmp_path):
    write_hydra(tmp_path, ["seed=1"], {"seed": 1})
    how = read_reproduction(tmp_path, {"overrides": ["seed=0"], "settings": {"seed": 0}})
    assert (how.command, yaml.safe_load(how.config)) == ("python run.py seed=0", {"seed": 0})


@pytest.mark.parametrize(
    ("override", "shown"),
    [
        ("logger.api_key=abc", "logger.api_key=(hidden)"),
        ("+hf_token=abc=", "+hf_token=(hidden)"),
        ("logger={api_key:abc,project:x}", "logger={api_key:(hidden),project:x}"),
        ("benchmark.max_new_tokens=24", "benchmark.max_new_tokens=24"),
        ("gradients.tokens_per_batch=auto", "gradients.tokens_per_batch=auto"),
        ("logger.api_key=null", "logger.api_key=null"),
        ("~logger", "~logger"),
    ],
)
def test_overrides_show_no_secret(override, shown):
    assert without_secret(override) == shown


def test_the_configuration_shows_no_secret_at_any_depth():
    config = {"a": [{"apiKey": "x", "password": ["x", "y"]}], "keys": 3, "token": None, "max_new_tokens": 2}
    assert without_secrets(config) == {
        "a": [{"apiKey": "(hidden)", "password": "(hidden)"}],
        "keys": 3,
        "token": None,
        "max_new_tokens": 2,
    }
