import json
import os
import time
from pathlib import Path

import pytest
import torch

from lessexp import processes
from lessexp.processes import ALONE, ProcessError, Team, device_of, joined, n_to_start, start_workers
from tests.teams import run_team

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("n_items", [0, 1, 4, 10, 24])
def test_shares_are_disjoint_whole_in_order_and_of_about_the_same_weight(size, n_items):
    items = list(range(n_items))
    shares = [Team(rank, size).share(items) for rank in range(size)]
    assert sorted(item for share in shares for item in share) == items
    assert all(share == sorted(share) for share in shares)
    # Two rounds weigh alike; what is left over is one item at most, and one step of size a round.
    assert max(map(sum, shares)) - min(map(sum, shares)) <= n_items + size


def test_one_process_alone_leads_has_all_and_waits_for_nobody():
    assert ALONE.is_leader
    assert ALONE.share([1, 2, 3]) == [1, 2, 3]
    assert ALONE.from_leader("value") == "value"
    ALONE.meet()
    with ALONE.leader_first():
        pass


def note(team, folder):
    (folder / f"value-{team.rank}").write_text(json.dumps(team.from_leader({"of": team.rank})))
    with team.leader_first():
        if team.is_leader:
            time.sleep(0.3)
        (folder / f"passed-{team.rank}").write_text(str(time.monotonic()))
        n_passed = len(list(folder.glob("passed-*")))
        assert team.is_leader == (n_passed == 1)
    assert len(list(folder.glob("passed-*"))) == team.size, "left before all had passed"


def test_a_team_gets_the_leaders_value_and_follows_it(tmp_path):
    assert run_team(3, note, tmp_path) == [0, 0, 0]
    assert [json.loads((tmp_path / f"value-{rank}").read_text()) for rank in range(3)] == [{"of": 0}] * 3
    passed = [float((tmp_path / f"passed-{rank}").read_text()) for rank in range(3)]
    assert passed[0] == min(passed)


@pytest.mark.parametrize(
    ("environment", "numbers"),
    [
        ({}, None),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, None),  # a batch script, outside srun
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, None),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, (3, 4, 1, 2)),
        (
            {"SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "5", "SLURM_LOCALID": "1"},
            (5, 8, 1, 4),
        ),
    ],
)
def test_launchers_say_who_a_process_is(environment, numbers):
    assert processes._numbers(environment) == numbers
    assert processes.is_started_with_others(environment) == (numbers is not None)


def test_machines_with_different_numbers_of_processes_are_refused(monkeypatch):
    for name, value in {"RANK": 0, "WORLD_SIZE": 3, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(ProcessError, match="3 processes do not spread evenly over machines of 2"), processes.joined():
        pass


def test_a_team_on_a_machine_with_gpus_can_meet_on_the_cpu_too(monkeypatch):
    asked = []
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, **_: asked.append(backend))
    monkeypatch.setattr(torch.distributed, "new_group", lambda backend, **_: None)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    with joined():
        pass
    assert asked == ["cpu:gloo,cuda:nccl"]


def test_each_of_several_processes_has_a_gpu_of_its_own():
    assert device_of("cuda", ALONE) == "cuda"
    assert device_of("cuda", Team(rank=5, size=8, local_rank=1, local_size=4)) == "cuda:1"
    assert device_of("cpu", Team(rank=1, size=2)) == "cpu"


def test_how_many_to_start_is_a_number_or_one_a_gpu(monkeypatch):
    assert n_to_start(3, device=None) == 3
    monkeypatch.setattr(processes.torch.cuda, "device_count", lambda: 4)
    assert n_to_start("auto", device=None) == 4
    with pytest.raises(ProcessError, match="torch finds none; give a number"):
        n_to_start("auto", device="cpu")
    for wrong in (0, -1, "two"):
        with pytest.raises(ProcessError, match="must be a number above 0 or auto"):
            n_to_start(wrong, device=None)


def test_workers_run_the_package_that_starts_them_whatever_else_is_installed(monkeypatch, tmp_path):
    started = []

    class Ended:
        returncode = 0

        def __init__(self, command, env):
            started.append(env["PYTHONPATH"])

        def poll(self):
            return 0

    monkeypatch.setattr("lessexp.processes.subprocess.Popen", Ended)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    start_workers(tmp_path, tmp_path, 2)
    monkeypatch.delenv("PYTHONPATH")
    start_workers(tmp_path, tmp_path, 2)
    root = str(Path(processes.__file__).parents[1])
    assert started == [f"{root}{os.pathsep}{tmp_path}", root]
