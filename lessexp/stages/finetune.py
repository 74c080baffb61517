"""finetune: train a fresh copy of the model on the selected rows."""

import shutil
from typing import Any

from lessexp.data.source import RowFiles
from lessexp.files import written_whole
from lessexp.stages.configuration import dropout_draws, training_settings
from lessexp.stages.experiment import Experiment
from lessexp.stages.training import TrainingRun
from lessexp.stages.tuned_weights import TunedWeights


def run(experiment: Experiment) -> dict[str, Any]:
    """Train on ``selected.jsonl`` or take what was trained on it before; the run folder gets a copy."""
    cfg, model, tuning = experiment.cfg, experiment.model, experiment.tuning
    selected, _ = experiment.preparation.rows(RowFiles([experiment.selected_file]))
    rows, _ = experiment.tokenize(selected, model)
    tuned = experiment.runtime.get(
        TunedWeights(
            TrainingRun(
                model=model.model,
                tuning=tuning,
                rows=rows,
                settings=training_settings(cfg.finetune.training),
                seed=cfg.seed,
                pad_token_id=model.tokenizer.pad_token_id,
                dropout_draws=dropout_draws(cfg, n_processes=experiment.n_processes),
            )
        )
    )
    if experiment.team.is_leader:
        with written_whole(experiment.tuned_folder) as partial:
            shutil.copytree(tuned.folder / tuning.folder_name, partial)
            tuning.complete(partial, model.tokenizer)
    return {"n_rows": len(selected), "artifacts": {tuning.kind: tuned}}
