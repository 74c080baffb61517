"""finetune: train a fresh copy of the model on the selected rows.

The adapter is an artifact: runs that train on the same rows in the same way, as random ones for several targets do,
share it. Each epoch's checkpoint stays until the last is done, so a stopped training goes on.
"""

import shutil
from pathlib import Path
from typing import Any

from lessexp.data.arrow_sequence import ArrowSequence
from lessexp.data.rows import Row, fingerprint
from lessexp.data.source import RowFiles
from lessexp.files import written_whole
from lessexp.models.lora import save_adapter
from lessexp.stages.configuration import plain, training_fields
from lessexp.stages.experiment import Experiment
from lessexp.stages.training import train_epochs

_ADAPTER = "adapter"


def _fields(experiment: Experiment, selected: ArrowSequence[Row]) -> dict[str, Any]:
    """All that determines the adapter."""
    cfg = experiment.cfg
    return {
        "format": 1,
        "model": experiment.model.identity,
        "lora": plain(cfg.lora),
        "chat_format": plain(cfg.chat_format),
        "max_length": cfg.max_length,
        "rows": fingerprint(selected),
        **training_fields(cfg, cfg.finetune.training, n_processes=experiment.n_processes),
    }


def run(experiment: Experiment) -> dict[str, Any]:
    """Train on ``selected.jsonl`` or take what was trained on it before; the adapter goes to the run folder."""
    selected = experiment.preparation.rows(RowFiles([experiment.selected_file]))

    def build(folder: Path) -> dict[str, Any]:
        epochs = folder / "epochs"
        rows, _ = experiment.tokenize(selected, experiment.model)
        model, flops = train_epochs(
            experiment,
            experiment.model,
            rows,
            experiment.cfg.finetune.training,
            folder=epochs,
            log_prefix="finetune",
        )
        if experiment.team.is_leader:
            with written_whole(folder / _ADAPTER) as partial:
                save_adapter(model, partial)
            shutil.rmtree(epochs)
        return {"flops": flops}

    fields = _fields(experiment, selected)
    tuned = experiment.shelf.build_by_all("tuned_adapter", fields, build, team=experiment.team)
    if experiment.team.is_leader:
        with written_whole(experiment.adapter_folder) as partial:
            shutil.copytree(tuned.folder / _ADAPTER, partial)
    return {"n_rows": len(selected), "artifacts": {"tuned_adapter": tuned}}
