import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.parquet
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from lessexp import worker
from lessexp.gradients.datastore import GradientDatastore
from lessexp.models.lora import read_adapter
from lessexp.stages.composition import Command, write_settings
from lessexp.training.checkpoint import checkpoints_in, read_checkpoint
from tests.stages.conftest import SHRUNK
from tests.test_run import places, run_py  # noqa: F401  (a fixture)

# Five rows a warm-up step and six shards of the pool, so that three processes have different numbers of both. With the
# usual ε of 1e-8 Adam's step is the gradient's sign: it hides a gradient of the wrong size, and turns the order in
# which processes add up numbers near zero into steps. Clipping hides the size too, so it is out of reach. In 16 bits a
# loss scaled by a third is rounded in other places.
SETTINGS = [*SHRUNK, "warmup.training.batch_size=5", "micro_batch_size=1", "datastore.rows_per_shard=4"]
SETTINGS += ["model.dtype=float32", "warmup.training.eps=1e-3", "finetune.training.eps=1e-3"]
SETTINGS += ["warmup.training.max_grad_norm=1e6", "finetune.training.max_grad_norm=1e6"]


def stores(artifacts, kind):
    [folder] = [path.parent for path in artifacts.glob(f"{kind}/*/COMPLETE")]
    return GradientDatastore.open(folder)


def rows_of(store):
    return torch.stack([store.rows(checkpoint, 0, len(store.ids)) for checkpoint in store.checkpoints])


@pytest.fixture
def one(places, tmp_path):  # noqa: F811
    """A run of one process."""
    done = run_py(tmp_path / "one", *SETTINGS, *places, f"artifacts_dir={tmp_path / 'artifacts-1'}")
    assert done.returncode == 0, done.stderr
    return tmp_path / "one"


@pytest.mark.parametrize("n", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_processes_train_and_select_together_as_one_does(one, places, tmp_path, n):  # noqa: F811
    folder, artifacts = tmp_path / "several", tmp_path / "artifacts-n"
    done = run_py(folder, *SETTINGS, *places, "trainer=ddp", f"trainer.processes={n}", f"artifacts_dir={artifacts}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(folder)
    assert {path.name for path in folder.iterdir()} == {path.name for path in one.iterdir()}
    [alone], [together] = ((tmp_path / name / "warmup").glob("*/") for name in ("artifacts-1", "artifacts-n"))
    assert alone.name == together.name, "without dropout the number of processes is no setting"
    for first, second in zip(checkpoints_in(alone), checkpoints_in(together), strict=True):
        ours, theirs = read_checkpoint(second), read_checkpoint(first)
        assert ours.state == theirs.state
        for name in theirs.parameters:  # the same sums, added up in another order
            torch.testing.assert_close(ours.parameters[name], theirs.parameters[name], rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(ours.exp_avg[name], theirs.exp_avg[name], rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(ours.exp_avg_sq[name], theirs.exp_avg_sq[name], rtol=1e-4, atol=1e-8)
    for name, value in read_adapter(one / "adapter").items():
        torch.testing.assert_close(read_adapter(folder / "adapter")[name], value, rtol=1e-4, atol=1e-6)
    for kind in ("pool_gradients", "target_gradients"):
        first, second = stores(tmp_path / "artifacts-1", kind), stores(artifacts, kind)
        assert first.ids == second.ids
    scores = [pyarrow.parquet.read_table(run / "scores.parquet").to_pydict() for run in (one, folder)]
    assert scores[0]["example_id"] == scores[1]["example_id"]
    np.testing.assert_allclose(scores[0]["score"], scores[1]["score"], atol=5e-3)  # of rows that are stored in 16 bits


@pytest.mark.parametrize(
    ("trainer", "n", "part", "warmup"),
    [
        ("fsdp", 2, "lora", []),
        pytest.param("fsdp", 3, "full", ["selector=random"], marks=pytest.mark.slow),
        pytest.param("ddp", 2, "full", ["selector=random"], marks=pytest.mark.slow),
    ],
)
def test_processes_train_an_adapter_or_all_weights_as_one_does(places, tmp_path, trainer, n, part, warmup):  # noqa: F811
    settings = [*SETTINGS, *places, f"finetune={part}", "finetune.training.batch_size=5", *warmup]
    sizes = {"one": ["trainer=cpu"], "several": [f"trainer={trainer}", f"trainer.processes={n}", "device=cpu"]}
    for name, trainer in sizes.items():
        done = run_py(tmp_path / name, *settings, *trainer, f"artifacts_dir={tmp_path / f'artifacts-{name}'}")
        assert done.returncode == 0, done.stderr
    for kind in ("warmup/*/epoch=*", "tuned_*/*/*"):
        folders = [sorted((tmp_path / f"artifacts-{name}").glob(f"{kind}/")) for name in sizes]
        assert [folder.name for folder in folders[0]] == [folder.name for folder in folders[1]]
        for alone, together in zip(*folders, strict=True):
            for file in alone.glob("*.safetensors"):
                ours, theirs = load_file(together / file.name), load_file(file)
                assert list(ours) == list(theirs)
                for tensor, value in theirs.items():  # the same sums, added up in another order
                    torch.testing.assert_close(ours[tensor], value, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3])
def test_features_at_given_checkpoints_do_not_depend_on_the_number_of_processes(one, places, tmp_path, n):  # noqa: F811
    [warmup] = (tmp_path / "artifacts-1" / "warmup").glob("*/")
    found = []
    for size in (1, n):
        artifacts = tmp_path / f"given-{size}"
        settings = [*SETTINGS, *places, f"warmup.path={warmup}", "selector.stages=[warmup,gradients]"]
        done = run_py(tmp_path / f"run-{size}", *settings, f"trainer.processes={size}", f"artifacts_dir={artifacts}")
        assert done.returncode == 0, done.stderr
        found.append({kind: stores(artifacts, kind) for kind in ("pool_gradients", "target_gradients")})
    for kind, alone in found[0].items():
        together = found[1][kind]
        assert (together.ids, together.excluded) == (alone.ids, alone.excluded)
        assert torch.equal(rows_of(together), rows_of(alone)), "a shard's rows are computed in the same batches"


@pytest.mark.slow
@pytest.mark.parametrize(("trainer", "first", "then"), [("fsdp", 2, 1), ("fsdp", 1, 2), ("ddp", 2, 3)])
def test_a_training_goes_on_with_another_number_of_processes(places, tmp_path, trainer, first, then):  # noqa: F811
    settings = [*SETTINGS, *places, "selector.stages=[warmup]", f"trainer={trainer}", "device=cpu"]

    def trained(name, n):
        done = run_py(tmp_path / name, *settings, f"trainer.processes={n}", f"artifacts_dir={tmp_path / 'artifacts'}")
        assert done.returncode == 0, done.stderr
        [folder] = (tmp_path / "artifacts" / "warmup").glob("*/")
        return folder

    folder = trained("unbroken", first)
    [stays, lost] = checkpoints_in(folder)
    unbroken, written = read_checkpoint(lost), stays.stat().st_mtime_ns
    (folder / "COMPLETE").unlink()
    shutil.rmtree(lost)
    trained("goes on", then)
    assert stays.stat().st_mtime_ns == written, "the first epoch is not trained again"
    resumed = read_checkpoint(lost)
    assert resumed.state == unbroken.state
    for part in ("parameters", "exp_avg", "exp_avg_sq"):
        for name, value in getattr(unbroken, part).items():  # the same sums, added up in another order
            torch.testing.assert_close(getattr(resumed, part)[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3])
def test_representations_do_not_depend_on_the_number_of_processes(places, tmp_path, n):  # noqa: F811
    settings = [*SETTINGS, *places, "selector=rds", "selector.stages=[representations,select]"]
    for size in (1, n):
        artifacts = tmp_path / f"artifacts-{size}"
        done = run_py(tmp_path / str(size), *settings, f"trainer.processes={size}", f"artifacts_dir={artifacts}")
        assert done.returncode == 0, done.stderr
    for kind in ("pool_representations", "target_representations"):
        alone, together = (stores(tmp_path / f"artifacts-{size}", kind) for size in (1, n))
        assert together.ids == alone.ids
        assert torch.equal(rows_of(together), rows_of(alone))
    for file in ("selected.jsonl", "scores.parquet"):
        assert (tmp_path / str(n) / file).read_bytes() == (tmp_path / "1" / file).read_bytes()


def test_a_failure_of_one_process_ends_all_with_a_sentence(places, tmp_path):  # noqa: F811
    done = run_py(tmp_path / "out", *SETTINGS, *places, "trainer.processes=2", "target.path=/nowhere.jsonl")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: one of 2 processes failed (exit code 1), see above")
    assert "/nowhere.jsonl" in done.stderr + done.stdout
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.mark.slow
def test_tasks_of_srun_work_on_one_run(places, tmp_path):  # noqa: F811
    step = {
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NODELIST": "127.0.0.1",
        "SLURM_NODEID": "0",
        "SLURM_JOB_ID": "1234",
        "SLURM_JOB_NAME": "select",
    }
    settings = [*SETTINGS, *places, f"artifacts_dir={tmp_path / 'artifacts'}"]
    with ThreadPoolExecutor() as executor:
        tasks = [
            executor.submit(
                run_py, tmp_path / "out", *settings, **step, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank)
            )
            for rank in (0, 1)
        ]
    leader, follower = (task.result() for task in tasks)
    assert leader.returncode == 0, leader.stderr
    assert follower.returncode == 0, follower.stderr
    assert leader.stdout.splitlines()[-1] == str(tmp_path / "out")
    assert follower.stdout == ""
    assert (tmp_path / "out" / "results.json").is_file()


def test_torchrun_starts_one_run_and_no_sweep(tmp_path):
    done = run_py(tmp_path / "out", "-m", "seed=0,1", TORCHELASTIC_RUN_ID="1")
    assert done.returncode == 1
    assert "torchrun starts the processes of one run" in done.stderr


def test_a_worker_takes_its_settings_from_a_folder_of_their_own(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(worker, "run", lambda *given: seen.append(given))
    cfg, command = OmegaConf.create({"seed": 3}), Command(("seed=3",))
    write_settings(cfg, command, tmp_path / "settings")
    assert worker.main([str(tmp_path / "run"), str(tmp_path / "settings")]) is None
    assert seen == [(cfg, tmp_path / "run", command)]
    assert not (tmp_path / "run").exists()
