"""What final training leaves: an adapter, or a whole model.

Runs that train on the same rows in the same way, as random ones for several targets do, share it. Each epoch's
checkpoint stays until the next exists, so a stopped training resumes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lessexp.files import remove_whole, written_whole
from lessexp.stages.runtime import Runtime
from lessexp.stages.training import TrainingRun
from lessexp.training.checkpoint import checkpoints_in, copy_trained


@dataclass(frozen=True)
class TunedWeights:
    """A model's adapter, or its weights, after training on rows.

    Attributes:
        training: all of it.
    """

    version: ClassVar[int] = 2
    by_all: ClassVar[bool] = True

    training: TrainingRun

    @property
    def kind(self) -> str:
        """The folder that holds it and its like."""
        return self.training.tuning.kind

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        """Train, and keep what the last epoch leaves."""
        epochs = folder / "epochs"
        trained = self.training.train_epochs(
            epochs, log_prefix="finetune", keeps_all_checkpoints=False, runtime=runtime
        )
        if runtime.engine.team.is_leader:
            with written_whole(folder / self.training.tuning.folder_name) as partial:
                copy_trained(checkpoints_in(epochs)[-1], partial)
            remove_whole(epochs)
        return trained
