"""The callback that captures the Adam moments for Γ at the end of each epoch."""

from pathlib import Path

import pytorch_lightning as pl

from lessexp.files import remove_whole
from lessexp.training.checkpoint import TrainerState, checkpoints_in, epoch_folder, write_checkpoint
from lessexp.training.module import InstructionTuning


class AdamMomentsCheckpoint(pl.Callback):
    """Writes what was trained, moments and trainer state of every epoch under ``root``.

    Args:
        root: gets one ``epoch=K`` folder an epoch, K counting from 1.
        seed: of the run, kept with the checkpoint.
        keeps_all: whether earlier epochs stay; without, the last one alone does, from which training can go on.
    """

    def __init__(self, root: Path, *, seed: int, keeps_all: bool = True):
        self.root = root
        self.seed = seed
        self.keeps_all = keeps_all

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
        earlier, folder = checkpoints_in(self.root), epoch_folder(self.root, epoch)
        leads = trainer.is_global_zero
        write_checkpoint(folder, pl_module.model, optimizer, state, part=pl_module.part, writes=leads)
        if leads and not self.keeps_all:
            for one in earlier:
                remove_whole(one)
