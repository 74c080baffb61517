"""One training run: data module, Lightning module and trainer put together."""

from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.loggers import Logger
from torch import nn

from lessexp.data.datamodule import InstructionDataModule
from lessexp.data.tokenize import TokenizedRow
from lessexp.training.adam_moments import AdamMomentsCheckpoint
from lessexp.training.checkpoint import EpochCheckpoint
from lessexp.training.module import InstructionTuning, TrainingSettings
from lessexp.training.trained_part import ADAPTER, TrainedPart
from lessexp.training.trainer import Engine, make_trainer, without_idle_warnings


def fit(
    model: nn.Module,
    rows: Sequence[TokenizedRow],
    settings: TrainingSettings,
    *,
    micro_batch_size: int,
    pad_token_id: int,
    seed: int,
    log_prefix: str,
    engine: Engine,
    loggers: Sequence[Logger],
    log_folder: Path,
    part: TrainedPart = ADAPTER,
    precision: str = "32-true",
    checkpoint_root: Path | None = None,
    keeps_all_checkpoints: bool = True,
    resume_from: EpochCheckpoint | None = None,
) -> None:
    """Train a part of a model in place.

    Args:
        model: with an adapter attached, where that is what is trained. Spread over processes it stays spread.
        rows: what to train on.
        settings: of the run.
        micro_batch_size: examples of one forward pass.
        pad_token_id: fills the ends of short rows.
        seed: of row order and dropout.
        log_prefix: first part of the metric names and of the progress bar.
        engine: where and how. Processes each call this and share every step; they end with the same weights.
        loggers: get loss and learning rate of every step.
        log_folder: what Lightning may write to.
        part: what is trained.
        precision: Lightning's name of the arithmetic around the weights.
        checkpoint_root: gets a checkpoint every epoch, if given.
        keeps_all_checkpoints: whether those of earlier epochs stay.
        resume_from: the checkpoint to continue after.
    """
    first_epoch = resume_from.state.epoch if resume_from else 0
    data = InstructionDataModule(
        rows,
        batch_size=settings.batch_size,
        micro_batch_size=min(micro_batch_size, settings.batch_size),
        pad_token_id=pad_token_id,
        seed=seed,
        team=engine.team,
        first_epoch=first_epoch,
    )
    module = InstructionTuning(
        model,
        settings,
        steps_per_epoch=data.steps_per_epoch,
        log_prefix=log_prefix,
        seed=seed,
        part=part,
        team=engine.team,
        resume_from=resume_from,
    )
    callbacks: list[pl.Callback] = [RichProgressBar(leave=True)]
    if checkpoint_root is not None:
        callbacks.append(AdamMomentsCheckpoint(checkpoint_root, seed=seed, keeps_all=keeps_all_checkpoints))
    trainer = make_trainer(
        engine=engine,
        precision=precision,
        loggers=loggers,
        log_folder=log_folder,
        max_epochs=settings.epochs - first_epoch,
        accumulate_grad_batches=data.micro_batches_per_step,
        gradient_clip_val=settings.max_grad_norm,
        callbacks=callbacks,
    )
    with without_idle_warnings():
        model.train()
        if engine.activation_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        trainer.fit(module, datamodule=data)
        if engine.activation_checkpointing:
            model.gradient_checkpointing_disable()
    model.eval()
