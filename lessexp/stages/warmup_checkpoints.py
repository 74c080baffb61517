"""The checkpoints at which gradients are taken: trained here, fresh, of another trainer, or given by path."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import DictConfig

from lessexp.artifacts import Artifact
from lessexp.data.arrow_sequence import ArrowSequence
from lessexp.data.tokenize import TokenizedRow
from lessexp.files import written_whole
from lessexp.models.lora import LoraSettings
from lessexp.stages.configuration import dropout_draws, training_settings
from lessexp.stages.model_in_use import Model, ModelInUse
from lessexp.stages.progress import say
from lessexp.stages.runtime import Runtime
from lessexp.stages.shelf import Shelf
from lessexp.stages.training import TrainingRun
from lessexp.stages.tuning import LoraTuning
from lessexp.training.checkpoint import checkpoint_hash, checkpoints_in, epoch_of
from lessexp.training.imports import ImportedWarmup
from lessexp.training.module import TrainingSettings
from lessexp.training.untrained import write_untrained


@dataclass(frozen=True)
class TrainedCheckpoints:
    """A warm-up: one checkpoint an epoch.

    Attributes:
        training: all of it.
    """

    kind: ClassVar[str] = "warmup"
    version: ClassVar[int] = 2
    by_all: ClassVar[bool] = True

    training: TrainingRun

    @property
    def n_epochs(self) -> int:
        """Checkpoints that it has once it is built."""
        return self.training.settings.epochs

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        """Train epoch by epoch."""
        if runtime.engine.team.is_leader:
            with written_whole(folder / "example_ids.json") as partial:
                partial.write_text(json.dumps(self.training.rows.ids) + "\n", encoding="utf-8")
        return self.training.train_epochs(folder, log_prefix="warmup", keeps_all_checkpoints=True, runtime=runtime)


@dataclass(frozen=True)
class FreshAdapter:
    """The adapter as it is before any training.

    Attributes:
        model: that it belongs to.
        lora: its shape.
        training: that is not done; its betas, ε and learning rate are recorded.
        seed: that draws it.
    """

    kind: ClassVar[str] = "warmup"
    version: ClassVar[int] = 1
    by_all: ClassVar[bool] = False
    n_epochs: ClassVar[int] = 0  # its checkpoint is the one before any

    model: Model
    lora: LoraSettings
    training: TrainingSettings
    seed: int

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        """Write it as ``epoch=0``."""
        model = self.model.load_with_adapter(self.lora, runtime, seed=self.seed)
        write_untrained(folder, model, self.training, seed=self.seed)
        return {"n_rows": 0, "flops": 0}


@dataclass(frozen=True)
class ImportedCheckpoints:
    """Another trainer's checkpoints in this program's own format.

    Attributes:
        model: that they belong to.
        lora: shape of the adapter.
        imported: the checkpoints, by content.
    """

    kind: ClassVar[str] = "warmup"
    version: ClassVar[int] = 1
    by_all: ClassVar[bool] = False

    model: Model
    lora: LoraSettings
    imported: ImportedWarmup

    @property
    def n_epochs(self) -> int:
        """Checkpoints that it has once it is built."""
        return len(self.imported.checkpoints)

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        """Convert each of them."""
        model = self.model.load_with_adapter(self.lora, runtime, seed=0)  # whose values are overwritten
        n_checkpoints = self.imported.convert(model, folder, announce=lambda text: say(f"warmup: {text}"))
        say(f"warmup: {n_checkpoints} checkpoints of {self.imported.root} are imported")
        return {"n_checkpoints": n_checkpoints, "flops": 0}


@dataclass(frozen=True)
class GivenCheckpoints:
    """Checkpoints of this program's own format, in a folder that the user names; nothing is built.

    Attributes:
        folder: holds the ``epoch=K`` folders.
    """

    folder: Path

    @cached_property
    def identity(self) -> dict[str, str]:
        """The three inputs of Γ, by epoch."""
        return checkpoint_hashes({epoch_of(folder): folder for folder in checkpoints_in(self.folder)})


Checkpoints = Artifact | GivenCheckpoints


def checkpoints_of(
    cfg: DictConfig,
    model: ModelInUse,
    *,
    imported: ImportedWarmup | None,
    share: Callable[[], ArrowSequence[TokenizedRow]],
    n_processes: int,
) -> Checkpoints:
    """What ``warmup`` in the configuration asks for.

    Args:
        cfg: a run's configuration.
        model: whose adapter it is.
        imported: the checkpoints of another trainer, if they take the place of a warm-up.
        share: draws the rows to train on.
        n_processes: that train together.
    """
    if imported:
        return ImportedCheckpoints(model.model, model.lora, imported)
    if cfg.warmup.path:
        return GivenCheckpoints(Path(cfg.warmup.path))
    training = training_settings(cfg.warmup.training)
    if cfg.warmup.fraction == 0:
        return FreshAdapter(model.model, model.lora, training, cfg.seed)
    return TrainedCheckpoints(
        TrainingRun(
            model=model.model,
            tuning=LoraTuning(model.lora),
            rows=share(),
            settings=training,
            seed=cfg.seed,
            pad_token_id=model.tokenizer.pad_token_id,
            dropout_draws=dropout_draws(cfg, n_processes=n_processes),
        )
    )


def folder_of(checkpoints: Checkpoints, shelf: Shelf) -> Path:
    """Where checkpoints lie, or will."""
    return checkpoints.folder if isinstance(checkpoints, GivenCheckpoints) else shelf.folder(checkpoints)


def chosen_folders(root: Path, epochs: Sequence[int] | None) -> dict[int, Path]:
    """The checkpoints under ``root`` that count, by epoch, once they exist; ``None`` takes all of them."""
    folders = {epoch_of(folder): folder for folder in checkpoints_in(root)}
    return folders if epochs is None else {epoch: folders[epoch] for epoch in sorted(epochs)}


def checkpoint_hashes(folders: Mapping[int, Path]) -> dict[str, str]:
    """Hash of each checkpoint's content, by epoch."""
    return {str(epoch): checkpoint_hash(folder) for epoch, folder in folders.items()}
