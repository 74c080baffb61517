"""Experiment trackers: what every logger gets from a run besides the training curves."""

import os
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import wandb
from pytorch_lightning.loggers import Logger, WandbLogger


def wandb_logger(*, project: str, name: str | None, group: str | None, save_dir: str) -> WandbLogger:
    """A W&B run that needs no account: offline unless ``WANDB_MODE`` says otherwise or a key is set up.

    Args:
        project: W&B project.
        name: of the run; ``None`` lets W&B choose.
        group: runs that belong together.
        save_dir: where the run's files are kept.
    """
    mode = os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False) else "offline")
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    wandb.setup(wandb.Settings(silent=True))
    run = wandb.init(project=project, name=name, group=group, dir=save_dir, mode=mode)
    return WandbLogger(experiment=run)


def flat_metrics(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a nested record, by slash-separated path."""
    flat: dict[str, float] = {}
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flat_metrics(value, f"{name}/")
        elif isinstance(value, Real):
            flat[name] = float(value)
    return flat


def log_metrics(loggers: Sequence[Logger], metrics: Mapping[str, float]) -> None:
    """Give every logger the same numbers."""
    for logger in loggers:
        logger.log_metrics(dict(metrics))


def log_table(loggers: Sequence[Logger], name: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Give a table to the loggers that can show one."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_table(name, columns=columns, data=rows)


def close(loggers: Sequence[Logger], *, succeeded: bool) -> None:
    """Write out what is still held back, and how the run ended."""
    for logger in loggers:
        logger.finalize("success" if succeeded else "failed")
        if isinstance(logger, WandbLogger):
            logger.experiment.finish(exit_code=0 if succeeded else 1)
