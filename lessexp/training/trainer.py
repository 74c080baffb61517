"""What all trainers of this program have in common."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from pytorch_lightning.strategies import ModelParallelStrategy, Strategy

from lessexp.processes import ALONE, Team

STRATEGIES: Mapping[str, Callable[[Team], Strategy | str]] = {
    "ddp": lambda team: "ddp",  # every process holds the whole model
    "fsdp": lambda team: ModelParallelStrategy(data_parallel_size=team.size, tensor_parallel_size=1),
}
"""How several processes share a training, by the name of ``trainer.strategy``."""


@dataclass(frozen=True)
class Engine:
    """Where and how a training is computed; alters no number beyond rounding.

    Attributes:
        device: e.g. ``cpu`` or ``cuda:1``.
        team: processes that train together, each on a device of its own.
        strategy: of several processes, a name in `STRATEGIES`.
        activation_checkpointing: whether activations are computed again in the backward pass, not kept.
    """

    device: str
    team: Team = ALONE
    strategy: str = "ddp"
    activation_checkpointing: bool = False

    @property
    def spreads_model(self) -> bool:
        """Whether each process holds a part of every weight."""
        return self.team.size > 1 and self.strategy == "fsdp"


def make_trainer(*, engine: Engine, loggers: Sequence[Logger], log_folder: Path, **settings: Any) -> pl.Trainer:
    """A Lightning trainer that writes no checkpoint of its own.

    Args:
        engine: where and how.
        loggers: get what every step logs.
        log_folder: what Lightning may write to.
        settings: of Lightning's trainer besides.
    """
    device, team = torch.device(engine.device), engine.team
    on_gpu = device.type == "cuda"
    if team.size > 1:
        strategy = STRATEGIES[engine.strategy](team)
        settings |= {"devices": team.local_size, "num_nodes": team.n_machines, "strategy": strategy}
    else:
        settings |= {"devices": [device.index or 0] if on_gpu else 1}
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
        # Earlier versions of transformers 5 have the old name alone.
        warnings.filterwarnings("ignore", message="`gradient_checkpointing_.* is deprecated", category=FutureWarning)
        yield
