"""finetune: train a fresh copy of the model on the selected rows."""

from typing import Any

from lessexp.data.source import RowFiles
from lessexp.data.tokenize import lengths_of
from lessexp.files import written_whole
from lessexp.models.lora import save_adapter
from lessexp.stages.configuration import training_settings
from lessexp.stages.cost import training_flops
from lessexp.stages.experiment import Experiment
from lessexp.training.fit import fit


def run(experiment: Experiment) -> dict[str, Any]:
    """Train on ``selected.jsonl``; the adapter goes to the run folder."""
    cfg = experiment.cfg
    selected = experiment.preparation.rows(RowFiles([experiment.selected_file]))
    rows, _ = experiment.tokenize(selected, experiment.model)
    settings = training_settings(cfg.finetune.training)
    model = experiment.model.load_with_adapter(seed=cfg.seed)
    fit(
        model,
        rows,
        settings,
        micro_batch_size=cfg.micro_batch_size,
        pad_token_id=experiment.model.tokenizer.pad_token_id,
        seed=cfg.seed,
        log_prefix="finetune",
        device=experiment.device,
        loggers=experiment.loggers,
        log_folder=experiment.run_folder,
        team=experiment.team,
    )
    if experiment.team.is_leader:
        with written_whole(experiment.adapter_folder) as partial:
            save_adapter(model, partial)
    n_tokens = settings.epochs * int(lengths_of(rows).sum())
    return {"n_rows": len(rows), "flops": training_flops(model.num_parameters(), n_tokens)}
