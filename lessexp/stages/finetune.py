"""finetune: train a fresh copy of the model on the selected rows.

What is trained is an artifact: runs that train on the same rows in the same way, as random ones for several targets do,
share it. Each epoch's checkpoint stays until the next is there, so a stopped training goes on.
"""

import shutil
from pathlib import Path
from typing import Any

from lessexp.data.arrow_sequence import ArrowSequence
from lessexp.data.rows import Row, fingerprint
from lessexp.data.source import RowFiles
from lessexp.files import remove_whole, written_whole
from lessexp.stages.configuration import plain, training_fields
from lessexp.stages.experiment import Experiment
from lessexp.stages.training import train_epochs
from lessexp.training.checkpoint import checkpoints_in, copy_trained


def _fields(experiment: Experiment, selected: ArrowSequence[Row]) -> dict[str, Any]:
    """All that determines what is trained."""
    cfg = experiment.cfg
    return {
        "format": 1,
        "model": experiment.model.identity,
        "chat_format": plain(cfg.chat_format),
        "max_length": cfg.max_length,
        "rows": fingerprint(selected),
        **experiment.tuning.fields(cfg),
        **training_fields(cfg, cfg.finetune.training, n_processes=experiment.n_processes),
    }


def run(experiment: Experiment) -> dict[str, Any]:
    """Train on ``selected.jsonl`` or take what was trained on it before; the run folder gets a copy."""
    selected, _ = experiment.preparation.rows(RowFiles([experiment.selected_file]))
    tuning, leads = experiment.tuning, experiment.team.is_leader

    def build(folder: Path) -> dict[str, Any]:
        epochs = folder / "epochs"
        rows, _ = experiment.tokenize(selected, experiment.model)
        trained = train_epochs(
            experiment,
            experiment.model,
            rows,
            experiment.cfg.finetune.training,
            folder=epochs,
            log_prefix="finetune",
            tuning=tuning,
            keeps_all_checkpoints=False,
        )
        if leads:
            with written_whole(folder / tuning.folder_name) as partial:
                copy_trained(checkpoints_in(epochs)[-1], partial)
                tuning.complete(partial, experiment.model)
            remove_whole(epochs)
        return trained

    fields = _fields(experiment, selected)
    tuned = experiment.shelf.build_by_all(tuning.kind, fields, build, team=experiment.team)
    if leads:
        with written_whole(experiment.tuned_folder) as partial:
            shutil.copytree(tuned.folder / tuning.folder_name, partial)
    return {"n_rows": len(selected), "artifacts": {tuning.kind: tuned}}
