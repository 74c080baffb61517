"""Checkpoints that another trainer wrote, as warm-up checkpoints of this program's own format."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from peft import PeftModel

from lessexp.models.lora import AdapterMismatchError, LoraSettings, copy_into, lora_parameters
from lessexp.training.checkpoint import EpochCheckpoint, TrainerState, epoch_folder, save_checkpoint
from lessexp.training.foreign_adapter import check_adapter_config
from lessexp.training.foreign_checkpoint import (
    ForeignCheckpoint,
    ForeignCheckpointError,
    config_file_of,
    content_hash,
    find_checkpoints,
)
from lessexp.training.foreign_optimizer import AdamState, read_adam_state
from lessexp.training.logged_rates import mean_logged_rates


@dataclass(frozen=True)
class _Opened:
    """A checkpoint whose optimizer state fits the adapter."""

    checkpoint: ForeignCheckpoint
    step: int
    logged_rates: dict[int, float]
    adam: AdamState


class ImportedWarmup:
    """The checkpoints in a folder that another trainer wrote.

    Args:
        path: the folder; see `lessexp.training.foreign_checkpoint` for what it may hold.
        learning_rates: the checkpoints' weights, in the order of their steps; ``None`` takes them from the
            trainer's log.
    """

    def __init__(self, *, path: str, learning_rates: Sequence[float] | None):
        self.root = Path(path)
        self.learning_rates = learning_rates

    @cached_property
    def checkpoints(self) -> list[ForeignCheckpoint]:
        """In the order of their names."""
        return find_checkpoints(self.root)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that determines what `convert` writes, besides the model."""
        hashes = {checkpoint.path.name: content_hash(checkpoint) for checkpoint in self.checkpoints}
        rates = None if self.learning_rates is None else list(self.learning_rates)
        return {"imported": hashes, "learning_rates": rates}

    def check(self, lora: LoraSettings) -> None:
        """Find out what can be found out without reading a tensor.

        Raises:
            UserError: no or incomplete checkpoints, an adapter of another kind, or wrong learning rates.
        """
        for checkpoint in self.checkpoints:
            if config := config_file_of(checkpoint, self.root):
                check_adapter_config(config, lora)
        rates = self.learning_rates
        if rates is None:
            return
        if len(rates) != len(self.checkpoints):
            raise ForeignCheckpointError(
                f"warmup.learning_rates has {len(rates)} values, {self.root} {len(self.checkpoints)} checkpoints; "
                "give one for each, first step first"
            )
        if bad := [rate for rate in rates if not 0 < rate < math.inf]:
            raise ForeignCheckpointError(f"warmup.learning_rates must be above 0, got {bad[0]}")

    def convert(self, model: PeftModel, folder: Path, *, announce: Callable[[str], None]) -> int:
        """Write every checkpoint as ``epoch=K``, K counting from 1 in the order of steps.

        Args:
            model: with an adapter of the run's settings; its values are overwritten.
            folder: gets the checkpoints; those that are there already are kept.
            announce: gets one sentence for each thing that had to be assumed.

        Returns:
            The number of checkpoints.

        Raises:
            UserError: naming the file and what does not fit.
        """
        opened = self._opened(model)
        rates = self.learning_rates or self._rates_found(opened, announce)
        for epoch, (found, rate) in enumerate(zip(opened, rates, strict=True), start=1):
            if config_file_of(found.checkpoint, self.root) is None:
                announce(f"{found.checkpoint.path}: no adapter_config.json, so lora.alpha is taken on trust")
            if not epoch_folder(folder, epoch).exists():
                self._write(epoch_folder(folder, epoch), model, found, epoch=epoch, rate=rate)
        return len(opened)

    def _opened(self, model: PeftModel) -> list[_Opened]:
        """All checkpoints, first step first; their tensors stay on disk where they can."""
        shapes = {name: parameter.shape for name, parameter in lora_parameters(model).items()}
        opened = []
        for checkpoint in self.checkpoints:
            adam = read_adam_state(checkpoint.optimizer_state(), shapes, source=checkpoint.optimizer_source)
            progress = checkpoint.progress()
            step = adam.step if progress.step is None else progress.step
            opened.append(_Opened(checkpoint, step, dict(progress.logged_rates), adam))
        opened.sort(key=lambda found: found.step)
        step, count = Counter(found.step for found in opened).most_common(1)[0]
        if count > 1:
            same = [found.checkpoint.path.name for found in opened if found.step == step]
            raise ForeignCheckpointError(
                f"{self.root}: {' and '.join(same)} are both of step {step}; move all but one elsewhere"
            )
        return opened

    def _rates_found(self, opened: Sequence[_Opened], announce: Callable[[str], None]) -> list[float]:
        logged = {step: rate for found in opened for step, rate in found.logged_rates.items()}
        steps = [found.step for found in opened]
        rates, unlogged = mean_logged_rates(
            steps, logged=logged, next_rates=[found.adam.next_learning_rate for found in opened]
        )
        for place, (found, rate) in enumerate(zip(opened, rates, strict=True)):
            if not 0 < rate < math.inf:
                raise ForeignCheckpointError(
                    f"{found.checkpoint.path}: the mean learning rate since the checkpoint before is {rate:g}, as far "
                    f"as it is known; give warmup.learning_rates=[...], one for each of {len(opened)} checkpoints"
                )
            if place in unlogged:
                announce(
                    f"{found.checkpoint.path}: no learning rate is logged since the checkpoint before; {rate:.3g} "
                    "follows from the optimizers' own (warmup.learning_rates=[...] sets others)"
                )
        return rates

    def _write(self, folder: Path, model: PeftModel, found: _Opened, *, epoch: int, rate: float) -> None:
        try:
            copy_into(model, found.checkpoint.adapter())
        except AdapterMismatchError as error:
            raise ForeignCheckpointError(f"{found.checkpoint.path}: adapter: {error}") from error
        if bad := [name for name, parameter in lora_parameters(model).items() if not parameter.isfinite().all()]:
            raise ForeignCheckpointError(
                f"{found.checkpoint.path}: adapter: {bad[0]} holds NaN or infinite values: the training diverged or "
                "the file is damaged; import checkpoints of another training"
            )
        adam = found.adam
        checkpoint = EpochCheckpoint(
            parameters={name: parameter.detach() for name, parameter in lora_parameters(model).items()},
            exp_avg={name: tensor.float() for name, tensor in adam.exp_avg.items()},
            exp_avg_sq={name: tensor.float() for name, tensor in adam.exp_avg_sq.items()},
            state=TrainerState(
                epoch=epoch, step=adam.step, betas=adam.betas, eps=adam.eps, mean_learning_rate=rate, seed=None
            ),
        )
        save_checkpoint(folder, model, checkpoint)
