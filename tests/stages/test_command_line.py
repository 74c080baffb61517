from pathlib import Path

import pytest

from lessexp.errors import ExperimentError
from lessexp.stages.command_line import checked_arguments
from lessexp.stages.credentials import CredentialError
from tests.stages.conftest import SHRUNK

ROOT = Path(__file__).parents[2]
GIVEN = [*SHRUNK, "data.paths=[pool.jsonl]", "target.path=target.jsonl"]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def left_out(arguments):
    """The keys that a sweep keeps out of its jobs' names."""
    [override] = checked_arguments(arguments)[len(arguments) :]
    key, _, keys = override.partition("=")
    assert key == "hydra.job.config.override_dirname.exclude_keys"
    return [one for one in keys.strip("[]").replace("'", "").split(",") if one]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["seed=1", "seed=2"],
        GIVEN,
        ["selector=[less]"],
        ["~experiment"],
        ["-r", "seed=1"],
        ["--cfg", "job", "fracton=3"],  # Hydra shows what it composes
        ["--help"],
        ["seed=1", "-cp", "elsewhere"],
        ["hydra.run.dir=x", "+hydra.job.env_set.A=b"],
    ],
)
def test_what_hydra_runs_is_handed_on_as_it_is(arguments):
    assert checked_arguments(arguments) == arguments


@pytest.mark.parametrize(
    "swept",
    [
        ["selector=random,less", "seed=0,1"],
        ["aggregate=mean,balanced,round_robin"],
        ["selector=choice(less,random)", "seed=range(0,3)"],
        ["selector=glob(r*)"],
        ["target=mmlu,reasoning_gym"],
        ["data=reasoning_gym,reasoning_gym_paraphrased", "lora.rank=4,8"],
        ["selector.stages=[select],[select,finetune]"],
        ["+data.families.leg_counting={},{min_animals: 3}"],
    ],
)
@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_a_sweep_over_groups_and_values_is_left_to_hydra_and_its_jobs_are_named_by_it(swept, flag):
    assert left_out([flag, *swept]) == []
    fixed = ["fraction=0.1", "warmup.training.epochs=2", "logger=none"]
    assert left_out([flag, *fixed, *swept]) == ["fraction", "warmup.training.epochs", "logger"]


def test_a_file_of_sweeps_needs_no_flag_and_names_what_it_sweeps_even_where_the_command_fixes_it():
    assert left_out(["-cd", "sweeps", "-cn", "table3_baselines", "size=mini", "seed=0", "fraction=0.1"]) == [
        "size",
        "fraction",
    ]


def test_values_that_another_sweeper_draws_are_not_checked():
    assert left_out(["-m", "proj_dim=interval(1,3)", "seed=0"]) == ["seed"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["selector=random,less"], r"^selector=random,less names several values; add -m for a run with each of them$"),
        (["seed=range(0,3)"], r"^seed=range\(0,3\) names several values; add -m"),
        (
            ["data=jsonl", "data.paths=a.jsonl,b.jsonl"],
            r"add -m .*, or write 'data.paths=\[a.jsonl,b.jsonl\]' for a list, 'data.paths=\"a.jsonl,b.jsonl\"' for a",
        ),
        (["-m", "selector=random,lesss"], "selector=lesss is not an option; did you mean less?"),
        (["-m", "seed=0,abc"], "^seed should be a valid integer, got 'abc'"),
        (["-m", "fraction=0.1,7"], "^fraction should be less than or equal to 1, got 7"),
        (["-m", "selector=random,less", "fracton=0.1"], "fracton is not a setting; did you mean fraction"),
        (["-m", "selector=random,less", "+fracton=0.1"], "fracton is not a setting; did you mean fraction"),
        (["selector.stages=[slect]"], "'slect' is no stage; did you mean select"),
        (["-cd", "swps", "-cn", "table3_baselines"], "swps is no folder; --config-dir names the folder"),
        (["-cd", "sweeps", "-cn", "table3"], "Cannot find primary config 'table3'"),
        (["artifacts_dir=/a(b)"], "write it in quotes: 'artifacts_dir=\"/a\\(b\\)\"'"),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_runs(arguments, message):
    with pytest.raises(ExperimentError, match=message) as caught:
        checked_arguments(arguments)
    assert "\n" not in str(caught.value)


def test_a_token_is_refused():
    with pytest.raises(CredentialError):
        checked_arguments(["-m", "seed=0,1", "logger.loggers.0.name=hf_" + "a" * 34])


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("artifacts_dir=~/x", "artifacts_dir=/home/me/x"),
        ("artifacts_dir=~", "artifacts_dir=/home/me"),
        ("hydra.run.dir=~/runs/1", "hydra.run.dir=/home/me/runs/1"),
        ("artifacts_dir='~/x'", "artifacts_dir='~/x'"),  # where it is read it is expanded
        ("artifacts_dir=~nobody_of_this_name", None),
        ("artifacts_dir=backup~", None),
    ],
)
def test_the_home_folder_may_be_written_as_a_tilde(monkeypatch, written, expected):
    monkeypatch.setenv("HOME", "/home/me")
    if expected is None:
        with pytest.raises(ExperimentError, match="in quotes"):
            checked_arguments([written])
    else:
        assert checked_arguments([written]) == [expected]
