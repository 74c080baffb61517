"""The checkpoint before any warm-up: LESS's ablation without one (arXiv:2402.04333, section 5.1)."""

from pathlib import Path

import torch
from peft import PeftModel

from lessexp.models.lora import lora_parameters
from lessexp.training.checkpoint import EpochCheckpoint, TrainerState, epoch_folder, save_checkpoint
from lessexp.training.module import TrainingSettings


def write_untrained(root: Path, model: PeftModel, settings: TrainingSettings, *, seed: int) -> None:
    """Write a fresh adapter as ``epoch=0``, with the moments of an optimizer that has taken no step: zero.

    There Γ is nearly the sign of the gradient, and the gradient of LoRA's A is zero, for B is.

    Args:
        root: gets the folder.
        model: with a fresh adapter.
        settings: of the training that is not done; its betas, ε and learning rate are recorded.
        seed: that drew the adapter.
    """
    adapter = {name: parameter.detach().cpu() for name, parameter in lora_parameters(model).items()}
    exp_avg, exp_avg_sq = ({name: torch.zeros_like(value) for name, value in adapter.items()} for _ in range(2))
    state = TrainerState(
        epoch=0,
        step=0,
        betas=settings.betas,
        eps=settings.eps,
        mean_learning_rate=settings.learning_rate,
        seed=seed,
    )
    save_checkpoint(epoch_folder(root, 0), model, EpochCheckpoint(adapter, exp_avg, exp_avg_sq, state))
