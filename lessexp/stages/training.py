"""Training epoch by epoch in an artifact's folder, from the last epoch that is there: warm-up and final."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lessexp.data.arrow_sequence import ArrowSequence
from lessexp.data.tokenize import TokenizedRow, lengths_of
from lessexp.files import remove_whole
from lessexp.stages.model_in_use import Model
from lessexp.stages.progress import say
from lessexp.stages.runtime import Runtime
from lessexp.stages.tuning import Tuning
from lessexp.training.checkpoint import checkpoints_in, contiguous, epoch_of, read_checkpoint, read_trainer_state
from lessexp.training.fit import fit
from lessexp.training.module import TrainingSettings


@dataclass(frozen=True)
class TrainingRun:
    """All that determines what a training leaves.

    Attributes:
        model: that is trained.
        tuning: what of it is trained.
        rows: what to train on.
        settings: how.
        seed: of an adapter, row orders and dropout.
        pad_token_id: fills the ends of short rows.
        dropout_draws: see `lessexp.stages.configuration.dropout_draws`.
    """

    model: Model
    tuning: Tuning
    rows: ArrowSequence[TokenizedRow]
    settings: TrainingSettings
    seed: int
    pad_token_id: int
    dropout_draws: tuple[int, int] | None

    def train_epochs(
        self, folder: Path, *, log_prefix: str, keeps_all_checkpoints: bool, runtime: Runtime
    ) -> dict[str, Any]:
        """Leave checkpoints of epochs in ``folder``; a stopped training resumes after the last one.

        If all checkpoints are to stay, that is the last before the first gap, and those after the gap are deleted.

        Args:
            folder: gets the ``epoch=K`` folders.
            log_prefix: first part of the metric names.
            keeps_all_checkpoints: whether those of earlier epochs stay.
            runtime: where and how.

        Returns:
            The rows trained on, the optimizer steps and the arithmetic in FLOP, of all epochs.
        """
        engine = runtime.engine
        # Whole in the computer's memory where it is spread; a device gets its part.
        loaded = self.tuning.fresh(self.model, runtime.on("cpu") if engine.spreads_model else runtime, seed=self.seed)
        n_parameters = loaded.num_parameters()
        found = checkpoints_in(folder)
        done = contiguous(found) if keeps_all_checkpoints else found
        engine.team.meet()  # all have seen the same
        if engine.team.is_leader:
            for surplus in found[len(done) :]:
                say(f"{surplus}: deleted, for an earlier epoch is missing")
                remove_whole(surplus)
        if not done or epoch_of(done[-1]) < self.settings.epochs:
            fit(
                loaded,
                self.rows,
                self.settings,
                micro_batch_size=runtime.micro_batch_size,
                pad_token_id=self.pad_token_id,
                seed=self.seed,
                log_prefix=log_prefix,
                engine=engine,
                precision=self.tuning.precision(self.model),
                part=self.tuning.part,
                loggers=runtime.loggers,
                log_folder=runtime.log_folder,
                checkpoint_root=folder,
                keeps_all_checkpoints=keeps_all_checkpoints,
                resume_from=read_checkpoint(done[-1], part=self.tuning.part) if done else None,
            )
        engine.team.meet()
        last = read_trainer_state(checkpoints_in(folder)[-1])
        if last.epoch != self.settings.epochs:
            raise RuntimeError(f"{folder} holds {last.epoch} of {self.settings.epochs} epochs")
        engine.team.meet()  # from here on the leader may move them
        n_tokens = self.settings.epochs * int(lengths_of(self.rows).sum())
        return {"n_rows": len(self.rows), "n_steps": last.step, "flops": self.tuning.flops(n_parameters, n_tokens)}
