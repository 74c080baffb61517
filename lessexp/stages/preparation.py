"""How an experiment's pools are made ready, from its configuration."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from lessexp.data.arrow_rows import datasets_of
from lessexp.data.counts import compare_counts
from lessexp.data.prepare import Preparation
from lessexp.data.rows import Row
from lessexp.files import user_path
from lessexp.stages.configuration import plain
from lessexp.stages.progress import progress_bar, say


def usable_cores() -> int:
    """Cores that this process may run on, which a cluster's scheduler may have limited."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def preparation(cfg: DictConfig) -> Preparation:
    """The settings under ``preparation``."""
    return Preparation(
        folder=user_path(cfg.cache_dir).absolute() / "pools",
        in_memory_below=cfg.preparation.in_memory_below,
        num_proc=cfg.preparation.num_proc or usable_cores(),
        announce=say,
        progress=progress_bar,
    )


def pool_counts(pool: Sequence[Row], cfg: DictConfig) -> dict[str, Any]:
    """Rows of each data set beside those that ``data.counts`` expects, see `lessexp.data.counts.compare_counts`."""
    return compare_counts(datasets_of(pool), plain(cfg.data).get("counts"))
