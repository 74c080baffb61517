"""Processes that meet as those of a run do, for tests."""

import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed

from lessexp.processes import Team


def _work(task: Callable[..., None], rank: int, size: int, rendezvous: str, arguments: tuple) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=size, timeout=timedelta(seconds=120)
    )
    try:
        task(Team(rank, size, rank, size, torch.distributed.group.WORLD), *arguments)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def run_team(size: int, task: Callable[..., None], *arguments) -> list[int]:
    """Run ``task(team, *arguments)`` in each of ``size`` processes; their exit codes by rank."""
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(target=_work, args=(task, rank, size, f"{folder}/rendezvous", arguments))
            for rank in range(size)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    return [process.exitcode for process in processes]
