"""One training run: data module, Lightning module and trainer put together."""

from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
from peft import PeftModel
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.loggers import Logger

from lessexp.data.datamodule import InstructionDataModule
from lessexp.data.tokenize import TokenizedRow
from lessexp.processes import ALONE, Team
from lessexp.training.adam_moments import AdamMomentsCheckpoint
from lessexp.training.checkpoint import WarmupCheckpoint
from lessexp.training.module import InstructionTuning, TrainingSettings
from lessexp.training.trainer import make_trainer, without_idle_warnings


def fit(
    model: PeftModel,
    rows: Sequence[TokenizedRow],
    settings: TrainingSettings,
    *,
    micro_batch_size: int,
    pad_token_id: int,
    seed: int,
    log_prefix: str,
    device: str,
    loggers: Sequence[Logger],
    log_folder: Path,
    team: Team = ALONE,
    checkpoint_root: Path | None = None,
    resume_from: WarmupCheckpoint | None = None,
) -> None:
    """Train the adapter in place.

    Args:
        model: with an adapter attached.
        rows: what to train on.
        settings: of the run.
        micro_batch_size: examples of one forward pass.
        pad_token_id: fills the ends of short rows.
        seed: of row order and dropout.
        log_prefix: first part of the metric names and of the progress bar.
        device: where to train, e.g. ``cpu`` or ``cuda:1``.
        loggers: get loss and learning rate of every step.
        log_folder: what Lightning may write to.
        team: of processes that each call this and share every step; they end with the same adapter.
        checkpoint_root: gets a warm-up checkpoint every epoch, if given.
        resume_from: the checkpoint to continue after.
    """
    first_epoch = resume_from.state.epoch if resume_from else 0
    data = InstructionDataModule(
        rows,
        batch_size=settings.batch_size,
        micro_batch_size=min(micro_batch_size, settings.batch_size),
        pad_token_id=pad_token_id,
        seed=seed,
        team=team,
        first_epoch=first_epoch,
    )
    module = InstructionTuning(
        model,
        settings,
        steps_per_epoch=data.steps_per_epoch,
        log_prefix=log_prefix,
        seed=seed,
        team=team,
        resume_from=resume_from,
    )
    callbacks: list[pl.Callback] = [RichProgressBar(leave=True)]
    if checkpoint_root is not None:
        callbacks.append(AdamMomentsCheckpoint(checkpoint_root, seed=seed))
    trainer = make_trainer(
        device=device,
        team=team,
        loggers=loggers,
        log_folder=log_folder,
        max_epochs=settings.epochs - first_epoch,
        accumulate_grad_batches=data.micro_batches_per_step,
        gradient_clip_val=settings.max_grad_norm,
        callbacks=callbacks,
    )
    with without_idle_warnings():
        model.train()
        trainer.fit(module, datamodule=data)
    model.eval()
