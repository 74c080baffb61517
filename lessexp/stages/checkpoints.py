"""Which checkpoints of a warm-up count, and what determines those that a user gives."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lessexp.training.checkpoint import checkpoint_hash, checkpoints_in, epoch_of


def given_checkpoint_fields(root: Path) -> dict[str, Any]:
    """What determines checkpoints that were trained before: their content."""
    return {"checkpoints": {str(epoch_of(folder)): checkpoint_hash(folder) for folder in checkpoints_in(root)}}


def checkpoint_folders(cfg: DictConfig) -> dict[int, Path]:
    """The checkpoints that count, by epoch, once they are there."""
    folders = {epoch_of(folder): folder for folder in checkpoints_in(Path(cfg.paths.warmup))}
    chosen = cfg.warmup.checkpoints
    return folders if chosen is None else {epoch: folders[epoch] for epoch in sorted(chosen)}


def chosen_checkpoint_fields(cfg: DictConfig) -> dict[str, Any]:
    """The choice as a part of what determines gradients; no choice is no part of it."""
    return {} if cfg.warmup.checkpoints is None else {"checkpoints": sorted(cfg.warmup.checkpoints)}
