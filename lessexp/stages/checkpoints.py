"""Which checkpoints of a warm-up count, by the settings of a run."""

from pathlib import Path

from omegaconf import DictConfig

from lessexp.stages.warmup_checkpoints import chosen_folders
from lessexp.training.checkpoint import checkpoints_in
from lessexp.training.imports import ImportedWarmup


def trains_warmup(cfg: DictConfig) -> bool:
    """Whether the warm-up is a training, as opposed to checkpoints that are given or a fresh adapter."""
    return not cfg.warmup.path and cfg.warmup.fraction > 0


def n_checkpoints(cfg: DictConfig, imported: ImportedWarmup | None) -> int:
    """Number of the checkpoints that count, before they exist."""
    if cfg.warmup.checkpoints is not None:
        return len(cfg.warmup.checkpoints)
    if imported:
        return len(imported.checkpoints)
    if cfg.warmup.path:
        return len(checkpoints_in(Path(cfg.warmup.path)))
    return cfg.warmup.training.epochs if trains_warmup(cfg) else 1


def checkpoint_folders(cfg: DictConfig) -> dict[int, Path]:
    """The checkpoints that count, by epoch, once they exist."""
    return chosen_folders(Path(cfg.paths.warmup), cfg.warmup.checkpoints)
