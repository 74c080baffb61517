"""The callback that captures the Adam moments for Γ at the end of each epoch."""

from pathlib import Path

import pytorch_lightning as pl

from lessexp.training.checkpoint import TrainerState, epoch_folder, write_checkpoint
from lessexp.training.module import InstructionTuning


class AdamMomentsCheckpoint(pl.Callback):
    """Writes adapter, moments and trainer state of every epoch under ``root``.

    Args:
        root: gets one ``epoch=K`` folder an epoch, K counting from 1.
        seed: of the run, kept with the checkpoint.
    """

    def __init__(self, root: Path, *, seed: int):
        self.root = root
        self.seed = seed

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: InstructionTuning) -> None:
        """Write the checkpoint of the epoch that just ended."""
        epoch = pl_module.first_epoch + trainer.current_epoch + 1
        optimizer = trainer.optimizers[0]
        group = optimizer.param_groups[0]
        state = TrainerState(
            epoch=epoch,
            step=pl_module.steps_taken,
            betas=tuple(group["betas"]),
            eps=group["eps"],
            mean_learning_rate=pl_module.mean_rates[epoch - 1],
            seed=self.seed,
        )
        if trainer.is_global_zero:
            write_checkpoint(epoch_folder(self.root, epoch), pl_module.model, optimizer, state)
