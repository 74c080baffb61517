"""The processes that work on one run together, and how they meet.

They are started by ``run.py`` itself (``trainer.processes``), by ``torchrun`` or by SLURM, on one machine or several
that share a file system. Process 0 leads: it alone writes what there is once.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed
from pytorch_lightning.plugins.environments import SLURMEnvironment

from lessexp.errors import UserError
from lessexp.interruption import Stopped

Item = TypeVar("Item")
_SLURM_SIZE = "SLURM_STEP_NUM_TASKS"  # srun sets it; a batch script's own SLURM_NTASKS starts nothing
_SECONDS_FOR_A_SHARD = 3600  # torchrun kills a process that a signal has not ended by then; by itself after 30
_WAITING = timedelta(days=7)  # for a leader that scores or evaluates; launchers end all processes when one fails


class ProcessError(UserError, RuntimeError):
    """Processes that cannot be started or did not end well."""


@dataclass(frozen=True)
class Team:
    """One process's view of all that work on a run.

    Attributes:
        rank: number of this process, 0 for the leader.
        size: how many there are.
        local_rank: number of this process on its machine.
        local_size: how many there are on its machine.
        group: through which they meet; ``None`` for a process alone.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    group: Any = None

    @property
    def is_leader(self) -> bool:
        """Whether this process writes what there is once."""
        return self.rank == 0

    @property
    def n_machines(self) -> int:
        """Machines with as many processes each."""
        return self.size // self.local_size

    def meet(self) -> None:
        """Wait until all processes are here."""
        if self.group is not None:
            torch.distributed.barrier(group=self.group)

    def from_leader(self, value: Item) -> Item:
        """The leader's value, on every process."""
        if self.group is None:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    @contextlib.contextmanager
    def leader_first(self) -> Iterator[None]:
        """The leader passes the block before the others; all leave it together."""
        if not self.is_leader:
            self.meet()
        yield
        if self.is_leader:
            self.meet()
        self.meet()

    def share(self, items: Sequence[Item]) -> list[Item]:
        """This process's part of items that rise in size: dealt there and back, so that all parts weigh alike."""
        rounds = (items[start : start + self.size] for start in range(0, len(items), self.size))
        places = ((self.rank, self.size - 1 - self.rank)[number % 2] for number in range(len(items)))
        return [dealt[place] for dealt, place in zip(rounds, places, strict=False) if place < len(dealt)]


ALONE = Team()


def _numbers(environment: Mapping[str, str]) -> tuple[int, int, int, int] | None:
    """Rank, size, local rank and local size, as torchrun or SLURM give them to each process."""
    if "RANK" in environment and "WORLD_SIZE" in environment:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        return tuple(int(environment.get(name, default)) for name, default in zip(names, "0101", strict=True))
    if (size := int(environment.get(_SLURM_SIZE, 1))) > 1:
        local_size = size // int(environment["SLURM_STEP_NUM_NODES"])
        return int(environment["SLURM_PROCID"]), size, int(environment["SLURM_LOCALID"]), local_size
    return None


def is_started_with_others(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a launcher started this process as one of several."""
    numbers = _numbers(environment)
    return numbers is not None and numbers[1] > 1


def is_follower() -> bool:
    """Whether a launcher started this process as one of several, and another leads."""
    return is_started_with_others() and _numbers(os.environ)[0] > 0


@contextlib.contextmanager
def joined() -> Iterator[Team]:
    """The team that a launcher made this process one of; `ALONE` without a launcher.

    Raises:
        ProcessError: machines have different numbers of processes.
    """
    if not is_started_with_others():
        yield ALONE
        return
    rank, size, local_rank, local_size = _numbers(os.environ)
    if size % local_size:
        raise ProcessError(
            f"{size} processes do not spread evenly over machines of {local_size}; start as many on each"
        )
    if _SLURM_SIZE in os.environ:
        slurm = SLURMEnvironment()
        os.environ.setdefault("MASTER_ADDR", slurm.main_address)
        os.environ.setdefault("MASTER_PORT", str(slurm.main_port))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"  # trainer.device=cpu stays possible
    torch.distributed.init_process_group(backend, rank=rank, world_size=size, timeout=_WAITING)
    try:
        yield Team(rank, size, local_rank, local_size, torch.distributed.new_group(backend="gloo", timeout=_WAITING))
    finally:
        torch.distributed.destroy_process_group()


def device_of(device: str | None, team: Team) -> str:
    """Where a process computes: where it is told to, or on a GPU if there is one; each of several on one of its own."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return f"cuda:{team.local_rank}" if device == "cuda" and team.size > 1 else device


def n_to_start(wanted: int | str, *, device: str | None) -> int:
    """How many processes ``trainer.processes`` asks for on this machine.

    Raises:
        ProcessError: not a number above 0, or ``auto`` without a GPU.
    """
    if wanted == "auto":
        n_gpus = 0 if device == "cpu" else torch.cuda.device_count()
        if n_gpus == 0:
            raise ProcessError("trainer.processes=auto takes one a GPU and torch finds none; give a number")
        return n_gpus
    if not isinstance(wanted, int) or wanted < 1:
        raise ProcessError(f"trainer.processes must be a number above 0 or auto, got {wanted!r}")
    return wanted


def start_workers(run_folder: Path, settings: Path, n: int) -> None:
    """Run an experiment by ``n`` processes of this machine.

    Args:
        run_folder: gets the run's files.
        settings: the folder that holds the settings.
        n: how many.

    Raises:
        ProcessError: one of them failed; what went wrong is on the terminal.
        Stopped: a signal came, and they have ended.
    """
    defaults = {
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // n)),
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(_SECONDS_FOR_A_SHARD),
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n}"]
    command += ["-m", "lessexp.worker", str(run_folder), str(settings)]
    # The package that runs here, wherever this was started from and whatever is installed.
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(command, env=defaults | os.environ | {"PYTHONPATH": os.pathsep.join(paths)})
    stopped = None
    while process.poll() is None:
        try:
            process.wait()
        except Stopped as signalled:  # Ctrl-C reaches the others too, and they finish their shards
            stopped = signalled
            if signalled.number != signal.SIGINT:
                process.terminate()
    if stopped:
        raise stopped
    if code := process.returncode:
        raise ProcessError(f"one of {n} processes failed (exit code {code}), see above; run again to go on")
