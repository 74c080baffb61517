"""What all trainers of this program have in common."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger

from lessexp.processes import ALONE, Team


def make_trainer(
    *, device: str, team: Team = ALONE, loggers: Sequence[Logger], log_folder: Path, **settings: Any
) -> pl.Trainer:
    """A Lightning trainer that writes no checkpoint of its own.

    Args:
        device: where to train, e.g. ``cpu`` or ``cuda:1``.
        team: of processes that train together, each on a device of its own.
        loggers: get what every step logs.
        log_folder: what Lightning may write to.
        settings: of Lightning's trainer besides.
    """
    on_gpu = torch.device(device).type == "cuda"
    if team.size > 1:
        settings |= {"devices": team.local_size, "num_nodes": team.n_machines, "strategy": "ddp"}
    else:
        settings |= {"devices": [torch.device(device).index or 0] if on_gpu else 1}
    return pl.Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        logger=list(loggers),
        default_root_dir=log_folder,
        log_every_n_steps=1,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,  # ours deals each step's rows
        enable_checkpointing=False,
        enable_model_summary=False,
        **settings,
    )


@contextlib.contextmanager
def without_idle_warnings() -> Iterator[None]:
    """Keep Lightning's advice that does not fit here off the terminal."""
    with warnings.catch_warnings():
        # Rows are tokenised beforehand; worker processes would only cost start-up time.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # Alignment compares gradients without dropout, as influence takes them.
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
        yield
