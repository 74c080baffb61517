"""Where and how artifacts are built. Nothing here alters a number beyond rounding, so nothing of it is in a key."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pytorch_lightning.loggers import Logger

from lessexp.artifacts import Artifact, Built
from lessexp.stages.shelf import Shelf
from lessexp.training.trainer import Engine


@dataclass(frozen=True)
class Runtime:
    """What an artifact's ``build`` is given besides its own fields.

    Attributes:
        shelf: where artifacts lie.
        engine: device and processes.
        loggers: trackers of the running stage.
        log_folder: what Lightning may write to.
        micro_batch_size: examples of one forward pass in training.
        tokens_per_batch: padded tokens of a batch whose gradients are taken.
        evaluation_tokens_per_batch: padded tokens of a batch that is only read.
        rows_per_shard: of gradient stores.
    """

    shelf: Shelf
    engine: Engine
    loggers: Sequence[Logger]
    log_folder: Path
    micro_batch_size: int
    tokens_per_batch: int | Literal["auto"]
    evaluation_tokens_per_batch: int
    rows_per_shard: int

    @property
    def device(self) -> str:
        """Where models run."""
        return self.engine.device

    def on(self, device: str) -> "Runtime":
        """The same on another device."""
        return replace(self, engine=replace(self.engine, device=device))

    def get(self, artifact: Artifact) -> Built:
        """Build an artifact, or take the one that exists."""
        return self.shelf.get(artifact, self)
