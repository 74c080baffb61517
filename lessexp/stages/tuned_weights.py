"""What final training leaves: an adapter, or a whole model.

Runs that train on the same rows in the same way, as random ones for several targets do, share it. Each epoch's
checkpoint stays until the next exists, so a stopped training resumes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lessexp.data.arrow_sequence import ArrowSequence
from lessexp.data.tokenize import TokenizedRow
from lessexp.files import remove_whole, written_whole
from lessexp.stages.model_in_use import Model
from lessexp.stages.runtime import Runtime
from lessexp.stages.training import train_epochs
from lessexp.stages.tuning import Tuning
from lessexp.training.checkpoint import checkpoints_in, copy_trained
from lessexp.training.module import TrainingSettings


@dataclass(frozen=True)
class TunedWeights:
    """A model's adapter, or its weights, after training on rows.

    Attributes:
        model: that is trained.
        tuning: what of it is trained.
        rows: what to train on.
        training: how.
        seed: of an adapter, row orders and dropout.
        pad_token_id: fills the ends of short rows.
        dropout_draws: see `lessexp.stages.configuration.dropout_draws`.
    """

    version: ClassVar[int] = 2
    by_all: ClassVar[bool] = True

    model: Model
    tuning: Tuning
    rows: ArrowSequence[TokenizedRow]
    training: TrainingSettings
    seed: int
    pad_token_id: int
    dropout_draws: tuple[int, int] | None

    @property
    def kind(self) -> str:
        """The folder that holds it and its like."""
        return self.tuning.kind

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        """Train, and keep what the last epoch leaves."""
        epochs = folder / "epochs"
        trained = train_epochs(
            self.model,
            self.tuning,
            self.rows,
            self.training,
            seed=self.seed,
            pad_token_id=self.pad_token_id,
            folder=epochs,
            log_prefix="finetune",
            keeps_all_checkpoints=False,
            runtime=runtime,
        )
        if runtime.engine.team.is_leader:
            with written_whole(folder / self.tuning.folder_name) as partial:
                copy_trained(checkpoints_in(epochs)[-1], partial)
            remove_whole(epochs)
        return trained
