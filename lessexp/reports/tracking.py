"""Experiment trackers: one tracked run a stage, and what it gets besides the training curves."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import wandb
from jaxtyping import UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from lessexp.errors import UserError

_LONGEST_NAME = 128  # characters; W&B refuses longer ones


class TrackerError(UserError, ImportError):
    """A tracker that is not installed."""


MakeLogger = Callable[..., Logger]
"""Makes the logger of a stage, ``(*, stage)``, which tells it apart from those of the run's other stages."""


def wandb_logger(*, stage: str, project: str, name: str | None, group: str | None, save_dir: str) -> WandbLogger:
    """A W&B run that needs no account: offline unless ``WANDB_MODE`` says otherwise or a key is set up.

    Args:
        stage: becomes the job type.
        project: W&B project.
        name: of the run; ``None``: that of the run folder.
        group: runs that belong together; ``None``: the end of the path that the run folder lies in.
        save_dir: the run folder, where the tracked run's files are kept.
    """
    folder = Path(save_dir).absolute()
    mode = os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False) else "offline")
    folder.mkdir(parents=True, exist_ok=True)
    wandb.setup(wandb.Settings(silent=True))
    run = wandb.init(
        project=project,
        name=(name or folder.name)[:_LONGEST_NAME],
        group=(group or "/".join(folder.parent.parts[-2:]))[-_LONGEST_NAME:],
        job_type=stage,
        dir=save_dir,
        mode=mode,
    )
    return WandbLogger(experiment=run)


def csv_logger(*, stage: str, save_dir: str) -> CSVLogger:
    """``csv/STAGE/metrics.csv`` below ``save_dir``."""
    return CSVLogger(save_dir, name="csv", version=stage)


def tensorboard_logger(*, stage: str, save_dir: str) -> TensorBoardLogger:
    """``tensorboard/STAGE`` below ``save_dir``.

    Raises:
        TrackerError: TensorBoard is not installed.
    """
    try:
        return TensorBoardLogger(save_dir, name="tensorboard", version=stage, default_hp_metric=False)
    except ModuleNotFoundError as error:
        raise TrackerError(
            "logger=tensorboard needs tensorboard; pip install 'lessexp[tensorboard]', or take another logger"
        ) from error


@contextlib.contextmanager
def tracked(
    make_loggers: Sequence[MakeLogger], *, stage: str, settings: Mapping[str, Any]
) -> Iterator[Sequence[Logger]]:
    """Loggers of one stage, told its settings; closed at the end, however it ends."""
    loggers = [make(stage=stage) for make in make_loggers]
    succeeded = False
    try:
        for logger in loggers:
            logger.log_hyperparams(dict(settings))
        yield loggers
        succeeded = True
    finally:
        for logger in loggers:
            logger.finalize("success" if succeeded else "failed")
            if isinstance(logger, WandbLogger):
                logger.experiment.finish(exit_code=0 if succeeded else 1)


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


def log_figure(loggers: Sequence[Logger], name: str, figure: Figure) -> None:
    """Give a figure to the loggers that can show one."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.log({name: wandb.Image(_pixels(figure))})
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_figure(name, figure)


def _pixels(figure: Figure) -> UInt8[np.ndarray, "height width 4"]:
    """The figure drawn; of matplotlib's classes W&B knows the plain figure only."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def log_file(loggers: Sequence[Logger], name: str, path: Path) -> None:
    """Give a file to the loggers that keep files, as an artifact of the kind ``subset``."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            artifact = wandb.Artifact(name, type="subset")
            artifact.add_file(str(path))
            logger.experiment.log_artifact(artifact)
