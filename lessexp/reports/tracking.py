"""Experiment trackers: one tracked run a stage, and what it gets besides the training curves."""

import contextlib
import logging
import os
import secrets
import shutil
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
_WITHOUT_SERVER = ("offline", "dryrun", "disabled")  # modes of W&B
_SECONDS_TO_FINISH = (
    60  # uploading what is left of a stage, unless WANDB_FINISH_TIMEOUT says otherwise; W&B has no limit
)
_log = logging.getLogger(__name__)


class TrackerError(UserError, ImportError):
    """A tracker that is not installed or cannot be used as it is set up."""


MakeLogger = Callable[..., Logger]
"""Makes the logger of a stage, ``(*, stage)``, which tells it apart from those of the run's other stages."""


class WandbRuns:
    """One W&B run a stage. No account is needed, and a server that fails ends no run: the rest is logged offline.

    Args:
        project: W&B project.
        name: of the W&B runs; ``None``: that of the run folder.
        group: runs that belong together; ``None``: the end of the path that the run folder lies in.
        save_dir: the run folder, which gets the files of the W&B runs.

    Raises:
        TrackerError: W&B refuses its settings, or ``WANDB_MODE`` asks for a server but there is no key.
    """

    def __init__(self, *, project: str, name: str | None, group: str | None, save_dir: str):
        folder = Path(save_dir).absolute()
        self.project = project
        self.name = (name or folder.name)[:_LONGEST_NAME]
        self.group = (group or "/".join(folder.parent.parts[-2:]))[-_LONGEST_NAME:]
        self.folder = folder
        self.mode = self._mode()

    def _mode(self) -> str:
        """The mode that the user has set; by default online if the server accepts a key, else offline."""
        settings = wandb.Settings(silent=True)
        try:
            if asked := os.environ.get("WANDB_MODE"):
                settings.mode = asked
            mode = wandb.setup(settings).settings.mode
        except ValueError as error:  # pydantic's: a heading, then the setting and what is wrong with it, a line each
            _, setting, wrong, *_ = [*str(error).splitlines(), "", ""]
            raise TrackerError(
                f"W&B refuses its setting '{setting}': {wrong.strip().partition(' [type=')[0]}; "
                f"correct WANDB_{setting.upper()}, or set logger=none"
            ) from error
        if mode in _WITHOUT_SERVER:
            return mode
        try:
            if wandb.login(prompt=False):
                return mode
        except wandb.Error as error:
            return self._offline(error)
        if asked:
            raise TrackerError(
                f"WANDB_MODE={asked} needs a key; set WANDB_API_KEY or run `wandb login`, or set WANDB_MODE=offline"
            )
        return "offline"

    def _offline(self, error: Exception) -> str:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        _log.warning("W&B goes on offline (%s); `wandb sync` uploads the runs in %s", reason, self.folder / "wandb")
        return "offline"

    def __call__(self, *, stage: str) -> WandbLogger:
        """Start the W&B run of a stage, which becomes its job type.

        A run that was killed and goes on has one offline run a stage as any other: that of a stage that came to its
        end stays and gets nothing more, that of the stage that was killed is logged anew.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        left = list((self.folder / "wandb").glob(f"offline-run-*-{stage}-*"))
        if left and (self.folder / "stages" / f"{stage}.json").exists():
            return WandbLogger(experiment=self._start(stage, mode="disabled"))
        for offline_run in left:
            shutil.rmtree(offline_run)
        if self.mode not in _WITHOUT_SERVER:
            try:
                return WandbLogger(experiment=self._start(stage, mode=self.mode))
            except wandb.Error as error:
                self.mode = self._offline(error)
        return WandbLogger(experiment=self._start(stage, mode=self.mode))

    def _start(self, stage: str, *, mode: str) -> wandb.Run:
        patience = wandb.setup().settings.finish_timeout or _SECONDS_TO_FINISH
        return wandb.init(
            project=self.project,
            id=f"{stage}-{secrets.token_hex(4)}",
            name=self.name,
            group=self.group,
            job_type=stage,
            dir=str(self.folder),
            mode=mode,
            settings=wandb.Settings(finish_timeout=patience, finish_timeout_raises=True),
        )

    def finish(self, logger: WandbLogger, *, succeeded: bool) -> None:
        """End the W&B run of a stage; what cannot be uploaded stays in the run folder."""
        try:
            logger.experiment.finish(exit_code=0 if succeeded else 1)
        except TimeoutError as error:
            self.mode = self._offline(error)


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
        for make, logger in zip(make_loggers, loggers, strict=True):
            logger.finalize("success" if succeeded else "failed")
            if isinstance(make, WandbRuns):
                make.finish(logger, succeeded=succeeded)


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
