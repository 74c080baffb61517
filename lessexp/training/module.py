"""Instruction tuning as a Lightning module. Warm-up and final training are two settings of it."""

from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lessexp.data.datamodule import TrainingBatch
from lessexp.data.seeds import derived_seed
from lessexp.errors import UserError
from lessexp.models.causal_lm import per_example_loss
from lessexp.models.lora import copy_values
from lessexp.processes import ALONE, Team
from lessexp.training.checkpoint import EpochCheckpoint
from lessexp.training.schedule import epoch_mean_rates, rate_factor, warmup_steps
from lessexp.training.sharding import own_part, shard, spread_like
from lessexp.training.trained_part import ADAPTER, TrainedPart


class DivergedError(UserError, ArithmeticError):
    """A training whose loss or weights are not finite; the message names the stage, the step and the key."""


@dataclass(frozen=True)
class TrainingSettings:
    """What determines a training run besides data and model.

    Attributes:
        epochs: passes over the rows.
        batch_size: examples of one optimizer step.
        learning_rate: peak of the schedule.
        schedule: name in `lessexp.training.schedule.SCHEDULES`.
        warmup_ratio: share of all steps over which the rate rises.
        betas: AdamW's decay rates.
        eps: AdamW's ε.
        weight_decay: AdamW's decoupled decay.
        max_grad_norm: the gradient is scaled down to this norm.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    schedule: str
    warmup_ratio: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    max_grad_norm: float


class InstructionTuning(pl.LightningModule):
    """Trains the adapter, or all weights, on the mean of its examples' losses.

    The loss of a step is the mean over its examples of each one's mean token loss, the ℓ that
    gradients and influence use, however the step is split into micro-batches.

    Args:
        model: with a fresh adapter, or one to be replaced by ``resume_from``; without where all weights are trained.
        settings: of the run.
        steps_per_epoch: optimizer steps of one epoch.
        log_prefix: first part of the metric names, e.g. ``warmup``.
        seed: of dropout.
        part: of the model that is trained.
        team: of processes that share each step.
        resume_from: the checkpoint to continue after.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: TrainingSettings,
        *,
        steps_per_epoch: int,
        log_prefix: str,
        seed: int,
        part: TrainedPart = ADAPTER,
        team: Team = ALONE,
        resume_from: EpochCheckpoint | None = None,
    ):
        super().__init__()
        self.team = team
        self.part = part
        self.model = model
        self.settings = settings
        self.log_prefix = log_prefix
        self.seed = seed
        self.resume_from = resume_from
        self.first_epoch = resume_from.state.epoch if resume_from else 0
        self.first_step = resume_from.state.step if resume_from else 0
        self.total_steps = settings.epochs * steps_per_epoch
        self.mean_rates = epoch_mean_rates(
            schedule=settings.schedule,
            learning_rate=settings.learning_rate,
            warmup_ratio=settings.warmup_ratio,
            epochs=settings.epochs,
            steps_per_epoch=steps_per_epoch,
        )
        if resume_from:
            copy_values(part.parameters(model), resume_from.parameters)

    @property
    def steps_taken(self) -> int:
        """Optimizer steps since the start of the first run, before any stop."""
        return self.first_step + self.trainer.global_step

    def configure_model(self) -> None:
        """Spread the model over the processes, where they are to share its memory."""
        if self.device_mesh is not None:
            shard(self.model, self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> dict:
        """AdamW over what is trained, with the moments of the checkpoint when resuming."""
        parameters = self.part.parameters(self.model)
        optimizer = torch.optim.AdamW(
            parameters.values(),
            lr=self.settings.learning_rate,
            betas=self.settings.betas,
            eps=self.settings.eps,
            weight_decay=self.settings.weight_decay,
        )
        if self.resume_from:
            for name, parameter in parameters.items():
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(self.resume_from.state.step)),
                    "exp_avg": spread_like(self.resume_from.exp_avg[name], parameter),
                    "exp_avg_sq": spread_like(self.resume_from.exp_avg_sq[name], parameter),
                }
        rise = warmup_steps(self.total_steps, self.settings.warmup_ratio)

        def rate_of_next_step(steps_since_start: int) -> float:
            # The scheduler asks once more after the last step.
            step = min(self.first_step + steps_since_start + 1, self.total_steps)
            return rate_factor(self.settings.schedule, step, total_steps=self.total_steps, warmup_steps=rise)

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate_of_next_step)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_batch_start(self, _batch: TrainingBatch, batch_index: int) -> None:
        """Seed dropout by place in the run, so that a resumed run draws what an unbroken one draws."""
        epoch = self.first_epoch + self.trainer.current_epoch
        place = batch_index * self.team.size + self.team.rank
        torch.manual_seed(derived_seed(self.seed, "dropout", epoch, place))

    def on_train_batch_end(self, *_: object) -> None:
        """Look at the weights when an epoch ends, before they are kept.

        Raises:
            DivergedError: they are not finite.
        """
        if self.trainer.is_last_batch:
            parts = self.part.parameters(self.model).values()
            if not all(own_part(part).isfinite().all() for part in parts):
                raise DivergedError(
                    f"{self.log_prefix}: weights are not finite after step {self.steps_taken} of {self.total_steps}; "
                    f"{self._remedy}"
                )

    @property
    def _remedy(self) -> str:
        return f"lower {self.log_prefix}.training.learning_rate (now {self.settings.learning_rate:g})"

    def training_step(self, micro_batch: TrainingBatch, _index: int) -> Tensor:
        """This micro-batch's share of the step's mean loss.

        Raises:
            DivergedError: it is not finite.
        """
        losses = per_example_loss(self.model, micro_batch.batch)
        if not losses.isfinite().all():
            step = self.steps_taken + 1
            untrained = "nothing is trained yet, so check the model's weights, or set model.dtype=float32"
            raise DivergedError(
                f"{self.log_prefix}: the loss is not finite in step {step} of {self.total_steps}; "
                f"{untrained if step == 1 else self._remedy}"
            )
        share = losses.sum() / micro_batch.examples_in_step
        self.log(f"{self.log_prefix}/loss", losses.mean(), prog_bar=True, batch_size=len(losses))
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log(f"{self.log_prefix}/learning_rate", rate, batch_size=len(losses))
        # Lightning divides by this number, also when the epoch's last step has fewer micro-batches, and averages over
        # processes.
        return share * self.trainer.accumulate_grad_batches * self.team.size
