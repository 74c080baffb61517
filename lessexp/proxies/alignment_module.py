"""Fitting a proxy's factors to its target, and choosing when to stop by how well influence is kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn
from transformers import PreTrainedModel

from lessexp.data.datamodule import InstructionDataModule, TrainingBatch
from lessexp.data.tokenize import TokenizedRow
from lessexp.models.causal_lm import answer_logits
from lessexp.proxies.alignment import (
    FactorGradients,
    alignment_loss,
    anchor_loss,
    factors_of,
    weight_gradients,
)
from lessexp.proxies.factors import Factors, ProxyError
from lessexp.proxies.low_rank_linear import low_rank_layers
from lessexp.training.trainer import Engine, make_trainer, without_idle_warnings

Fidelity = Callable[[nn.Module], float]
"""How well a proxy keeps the target's influence on rows held out; the higher the better."""


@dataclass(frozen=True)
class AlignmentSettings:
    """What determines an alignment besides models and rows.

    Attributes:
        epochs: passes over the rows.
        batch_size: examples of one step.
        learning_rate: AdamW's, the same throughout.
        weight_decay: AdamW's.
        anchor_weight: λ, of the answers' divergence.
        temperature: τ of that divergence.
        check_every: steps from one measurement of fidelity to the next.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    anchor_weight: float
    temperature: float
    check_every: int


class Alignment(pl.LightningModule):
    """Trains the factors alone, and remembers those with the highest fidelity, the untrained ones among them.

    Args:
        target: stays as it is.
        proxy: of float32, however the target is stored: small steps would vanish in 16 bits.
        settings: of the run.
        factor_gradients: first or second order.
        fidelity: measured before training and every few steps.
    """

    def __init__(
        self,
        target: PreTrainedModel,
        proxy: PreTrainedModel,
        settings: AlignmentSettings,
        *,
        factor_gradients: FactorGradients,
        fidelity: Fidelity,
    ):
        super().__init__()
        self.proxy = proxy
        self._target = [target]  # in a list, so that it is no part of what is trained or moved
        self.settings = settings
        self.factor_gradients = factor_gradients
        self.fidelity = fidelity
        self.history: list[tuple[int, float]] = []
        self.best: dict[str, Factors] = {}
        variables = [part for pair in factors_of(proxy).values() for part in (pair.up, pair.down)]
        if any(part.dtype in (torch.bfloat16, torch.float16) for part in variables):
            raise ProxyError("factors of 16 bits cannot be aligned; load the proxy as float32")
        proxy.requires_grad_(False)
        for part in variables:
            part.requires_grad_(True)
        # Kernels of fused attention have no second derivative.
        proxy.set_attn_implementation("eager")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over the factors."""
        variables = [parameter for parameter in self.proxy.parameters() if parameter.requires_grad]
        return torch.optim.AdamW(variables, lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay)

    def on_train_start(self) -> None:
        """The proxy as it was made is the one to beat."""
        self._measure()

    def training_step(self, micro_batch: TrainingBatch, _index: int) -> Tensor:
        """L of a batch.

        Raises:
            ProxyError: it is not finite.
        """
        batch, [target] = micro_batch.batch, self._target
        target_grads = weight_gradients(
            target, batch, {name: target.get_submodule(name) for name in low_rank_layers(self.proxy)}
        )
        with torch.no_grad():
            target_logits = answer_logits(target, batch)
        aligned = alignment_loss(factors_of(self.proxy), self.factor_gradients(self.proxy, batch), target_grads)
        anchored = anchor_loss(target_logits, answer_logits(self.proxy, batch), temperature=self.settings.temperature)
        loss = aligned + self.settings.anchor_weight * anchored
        if not torch.isfinite(loss):
            raise ProxyError(f"alignment's loss is {loss.item()} at {batch.example_ids}; lower alignment.learning_rate")
        values = {"alignment/gradients": aligned, "alignment/answers": anchored, "alignment/loss": loss}
        self.log_dict(values, batch_size=len(batch.example_ids))
        return loss

    def on_train_batch_end(self, *_: object) -> None:
        """Measure fidelity when it is time."""
        if self.trainer.global_step % self.settings.check_every == 0:
            self._measure()

    def on_train_end(self) -> None:
        """Measure the last step too, if that was not done."""
        if self.history[-1][0] != self.trainer.global_step:
            self._measure()

    def _measure(self) -> None:
        value = self.fidelity(self.proxy)
        self.history.append((self.trainer.global_step, value))
        if not self.best or value > max(known for _, known in self.history[:-1]):
            self.best = {
                name: Factors(pair.up.detach().cpu().clone(), pair.down.detach().cpu().clone())
                for name, pair in factors_of(self.proxy).items()
            }


def align(
    module: Alignment,
    rows: Sequence[TokenizedRow],
    *,
    pad_token_id: int,
    seed: int,
    device: str,
    loggers: Sequence[Logger],
    log_folder: Path,
) -> dict[str, Factors]:
    """Train, and give the factors of the highest fidelity.

    Args:
        module: with both models on ``device``.
        rows: to align on, other ones than fidelity is measured on.
        pad_token_id: fills the ends of short rows.
        seed: of row order.
        device: where to train.
        loggers: get losses of every step.
        log_folder: what Lightning may write to.
    """
    settings = module.settings
    data = InstructionDataModule(
        rows,
        batch_size=settings.batch_size,
        micro_batch_size=settings.batch_size,
        pad_token_id=pad_token_id,
        seed=seed,
    )
    trainer = make_trainer(
        engine=Engine(device),
        loggers=loggers,
        log_folder=log_folder,
        max_epochs=settings.epochs,
        enable_progress_bar=False,
    )
    with without_idle_warnings():
        module.proxy.eval()
        trainer.fit(module, datamodule=data)
    return module.best
