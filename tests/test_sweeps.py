"""What the jobs of a sweep share, and how a sweep is stopped and goes on, on the tiny model."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import lessexp.gradients.per_example
import lessexp.stages.training
from lessexp.pipeline import run
from lessexp.reports.results import read_results
from tests.slurm import fake_slurm
from tests.stages.conftest import SHRUNK, compose_config  # noqa: F401  (a fixture)
from tests.test_run import ROOT, places  # noqa: F401  (a fixture)

SELECTION = "selector.stages=[warmup,gradients,select]"  # what comes after is each job's own
DIMENSIONS = "datastore.also=[{proj_dim: 64},{proj_dim: 128},{proj_dim: 512}]"


@pytest.fixture
def counted(monkeypatch):
    """How often a warm-up was trained, and how many examples went backward for their features."""
    counts = {"warmups": 0, "examples": 0}
    fit, backward = lessexp.stages.training.fit, lessexp.gradients.per_example._backward

    def counted_fit(*args, **kwargs):
        counts["warmups"] += kwargs["log_prefix"] == "warmup"
        return fit(*args, **kwargs)

    def counted_backward(model, batch, *args):
        counts["examples"] += len(batch.example_ids)
        return backward(model, batch, *args)

    monkeypatch.setattr(lessexp.stages.training, "fit", counted_fit)
    monkeypatch.setattr(lessexp.gradients.per_example, "_backward", counted_backward)
    return counts


# 24 pool rows and 5 target rows at 2 checkpoints.
ONCE = {"warmups": 1, "examples": 2 * (24 + 5)}


@pytest.mark.parametrize(
    "jobs",
    [
        [[SELECTION, DIMENSIONS, f"proj_dim={proj_dim}"] for proj_dim in (64, 512, 128)],
        [[SELECTION, f"warmup.checkpoints={chosen}"] for chosen in ("null", "[2]", "[1]")],
        [[f"selector={selector}"] for selector in ("less", "random", "bm25")],
        [[SELECTION, f"fraction={fraction}"] for fraction in (0.2, 0.25, 0.5)],
        [[SELECTION, f"aggregate={name}"] for name in ("max_of_subtask_means", "mean", "round_robin", "balanced")],
        [[SELECTION, f"influence={name}"] for name in ("mean_of_cosines", "mean_of_products")],
    ],
    ids=["proj_dim", "checkpoints", "selector", "fraction", "aggregate", "influence"],
)
def test_warmup_and_backward_pass_happen_once_for_all_jobs_of_a_sweep(compose_config, counted, tmp_path, jobs):  # noqa: F811
    for number, overrides in enumerate(jobs):
        folder = tmp_path / str(number)
        folder.mkdir()
        run(compose_config(*overrides), folder)
        assert counted == ONCE


def sweep(folder, *overrides):
    command = [sys.executable, str(ROOT / "run.py"), "-m", *SHRUNK, *overrides, f"hydra.sweep.dir={folder}"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder.parent)


@pytest.mark.slow
def test_a_sweep_over_groups_ends_with_its_table_and_its_page_in_folders_named_by_what_was_swept(places, tmp_path):  # noqa: F811
    fixed = ["lora.rank=4", "lora.alpha=8", "seed=3", "datastore.dtype=int8", "evaluation.leaks.ngram=9", "dedup=exact"]
    done = sweep(tmp_path / "sweep", *places, *fixed, "selector=random,less", "aggregate=mean,balanced")
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "sweep").iterdir() if path.is_dir())
    assert names == [
        f"aggregate={aggregate},selector={selector}"
        for aggregate in ("balanced", "mean")
        for selector in ("less", "random")
    ]
    settings = [read_results(tmp_path / "sweep" / name) for name in names]
    assert [found["selector"] for found in settings] == ["less", "random"] * 2
    table = done.stdout.rpartition("Mean ± standard deviation over seeds")[2]
    for label in (
        "random aggregate=mean",
        "less aggregate=mean",
        "random aggregate=balanced",
        "less aggregate=balanced",
    ):
        assert f"│ {label} " in table
    assert done.stdout.splitlines()[-1] == str(tmp_path / "sweep")
    assert "less aggregate=balanced" in (tmp_path / "sweep" / "report.html").read_text()


@pytest.mark.slow
def test_a_sweep_of_selections_alone_ends_with_its_table_too(places, tmp_path):  # noqa: F811
    done = sweep(tmp_path / "sweep", *places, "selector=random,less", "selector.stages=[select]")
    assert done.returncode == 0, done.stderr
    less, random = (tmp_path / "sweep" / f"selector={name}" for name in ("less", "random"))
    assert [list(read_results(folder)["stages"]) for folder in (less, random)] == [
        ["warmup", "gradients", "select"],
        ["select"],
    ]
    assert not (less / "adapter").exists()
    assert f"selected rows: {less / 'selected.jsonl'}" in done.stdout
    assert "This run judged no model" in (less / "report.html").read_text()
    assert "│ less " in done.stdout.rpartition("Mean ± standard deviation over seeds")[2]


@pytest.mark.slow
def test_a_failed_job_stops_no_other_and_a_resumed_sweep_runs_only_what_is_missing(places, tmp_path):  # noqa: F811
    folder = tmp_path / "sweep"
    there, missing = tmp_path / "target.jsonl", tmp_path / "later.jsonl"
    targets = f"target.path={there},{missing}"
    first = sweep(folder, *places, "selector=random", "fraction=0.25,0.5", targets)
    assert first.returncode == 1
    assert "Traceback" not in first.stderr
    reason = f"target.path: '{missing}' matches no file"
    assert first.stderr.count(f"Error: {reason}") == 2  # one as each job fails
    assert "Error: 2 jobs of this sweep failed:\n  fraction=0.25,target.path=" in first.stderr
    assert "2 runs did not finish and are left out" in first.stdout
    finished = sorted(folder.glob("*/results.json"))
    assert len(finished) == 2
    written = [file.stat().st_mtime_ns for file in finished]
    missing.write_text(there.read_text())
    again = sweep(folder, *places, "selector=random", "fraction=0.25,0.5", targets, "resume=true")
    assert again.returncode == 0, again.stderr
    assert [file.stat().st_mtime_ns for file in finished] == written
    assert again.stdout.count("is finished and stays as it is") == 2
    assert len(list(folder.glob("*/results.json"))) == 4
    assert not list(folder.glob("*.error.txt"))


@pytest.mark.slow
def test_a_mistake_in_a_swept_value_is_one_sentence_before_the_first_job(places, tmp_path):  # noqa: F811
    done = sweep(tmp_path / "sweep", *places, "selector=random", "fraction=0.25,7,0.5")
    assert done.returncode == 1
    assert done.stderr == "Error: fraction should be less than or equal to 1, got 7\n"
    assert not (tmp_path / "sweep").exists()


LAUNCHERS = {
    "hydra_joblib_launcher": ["hydra/launcher=two_at_a_time"],
    "hydra_submitit_launcher": ["hydra/launcher=local"],
    "hydra_ray_launcher": [
        "hydra/launcher=ray_gpus",
        "hydra.launcher.ray.remote.num_gpus=0",
        "+hydra.launcher.ray.init.num_cpus=2",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("plugin", LAUNCHERS)
def test_jobs_side_by_side_take_turns_at_what_they_share(places, tmp_path, plugin):  # noqa: F811
    pytest.importorskip(f"hydra_plugins.{plugin}")
    done = sweep(tmp_path / "sweep", *places, "fraction=0.25,0.5", *LAUNCHERS[plugin])
    assert done.returncode == 0, done.stderr
    results = [read_results(tmp_path / "sweep" / f"fraction={name}") for name in (0.25, 0.5)]
    for stage, kind in (("warmup", "warmup"), ("gradients", "pool_gradients"), ("gradients", "target_gradients")):
        shared = [result["stages"][stage]["artifacts"][kind] for result in results]
        assert sorted(artifact["reused"] for artifact in shared) == [False, True], kind


def is_there(path, *, within_s=120):
    ends = time.monotonic() + within_s
    while not path.exists() and time.monotonic() < ends:
        time.sleep(0.05)
    return path.exists()


@pytest.mark.slow
def test_a_job_that_slurm_takes_its_machine_from_is_put_back_and_goes_on(places, tmp_path, monkeypatch):  # noqa: F811
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    slurm, folder = fake_slurm(tmp_path / "slurm"), tmp_path / "sweep"
    monkeypatch.setenv("PATH", str(slurm), prepend=":")
    with ThreadPoolExecutor() as threads:
        done = threads.submit(sweep, folder, *places, "selector=random", "fraction=0.25,0.5", "hydra/launcher=slurm")
        assert is_there(folder / "fraction=0.25" / "selected.jsonl"), (slurm / "out.0").read_text()
        os.kill(int((slurm / "pid.0").read_text()), signal.SIGUSR2)
    assert done.result().returncode == 0, done.result().stderr
    assert [read_results(folder / f"fraction={name}")["fraction"] for name in (0.25, 0.5)] == [0.25, 0.5]
    assert sorted((slurm / "turns").read_text().split()) == ["0", "0", "1"]
    assert (slurm / "requeued").read_text() == "requeue 7_0\n"
    script = (slurm / "script").read_text()
    for asked in ("--array=0-1%2", "--gpus-per-node=1", "--time=1440", "--signal=USR2@120", "--mem=64GB"):
        assert f"#SBATCH {asked}\n" in script
