"""Which checkpoints of a warm-up count, and what determines those that a user gives."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lessexp.training.checkpoint import checkpoint_hash, checkpoints_in, epoch_of
from lessexp.training.imports import ImportedWarmup
from lessexp.wholeness import COMPLETE


def given_checkpoint_fields(root: Path) -> dict[str, Any]:
    """What determines checkpoints that were trained before: their content."""
    return {"checkpoints": checkpoint_hashes({epoch_of(folder): folder for folder in checkpoints_in(root)})}


def checkpoint_hashes(folders: Mapping[int, Path]) -> dict[str, str]:
    """Hash of each checkpoint's content, by epoch."""
    return {str(epoch): checkpoint_hash(folder) for epoch, folder in folders.items()}


def trains_warmup(cfg: DictConfig) -> bool:
    """Whether the warm-up is a training, as opposed to checkpoints that are given or a fresh adapter."""
    return not cfg.warmup.path and cfg.warmup.fraction > 0


def takes_given_warmup(cfg: DictConfig) -> bool:
    """Whether ``warmup.path`` is a folder of this program's own checkpoints."""
    return bool(cfg.warmup.path) and not cfg.warmup.importer


def n_checkpoints(cfg: DictConfig, imported: ImportedWarmup | None) -> int:
    """Number of the checkpoints that count, before they are there."""
    if cfg.warmup.checkpoints is not None:
        return len(cfg.warmup.checkpoints)
    if imported:
        return len(imported.checkpoints)
    if cfg.warmup.path:
        return len(checkpoints_in(Path(cfg.warmup.path)))
    return cfg.warmup.training.epochs if trains_warmup(cfg) else 1


def hashes_of_finished_checkpoints(cfg: DictConfig) -> dict[str, str] | None:
    """Hashes of the checkpoints that count; ``None`` if they are yet to be made or downloaded."""
    place = cfg.paths.warmup
    is_there = place and (takes_given_warmup(cfg) or (Path(place) / COMPLETE).exists())
    return checkpoint_hashes(checkpoint_folders(cfg)) if is_there else None


def checkpoint_folders(cfg: DictConfig) -> dict[int, Path]:
    """The checkpoints that count, by epoch, once they are there."""
    folders = {epoch_of(folder): folder for folder in checkpoints_in(Path(cfg.paths.warmup))}
    chosen = cfg.warmup.checkpoints
    return folders if chosen is None else {epoch: folders[epoch] for epoch in sorted(chosen)}


def chosen_checkpoint_fields(cfg: DictConfig) -> dict[str, Any]:
    """The choice as a part of what determines gradients; no choice is no part of it."""
    return {} if cfg.warmup.checkpoints is None else {"checkpoints": sorted(cfg.warmup.checkpoints)}
