"""Training an adapter epoch by epoch in an artifact's folder, from the last epoch that is there: warm-up and final."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from peft import PeftModel

from lessexp.data.tokenize import TokenizedRow, lengths_of
from lessexp.models.lora import copy_into
from lessexp.stages.configuration import training_settings
from lessexp.stages.cost import training_flops
from lessexp.stages.experiment import Experiment
from lessexp.stages.model_in_use import ModelInUse
from lessexp.training.checkpoint import checkpoints_in, read_checkpoint
from lessexp.training.fit import fit


def train_epochs(
    experiment: Experiment,
    model_in_use: ModelInUse,
    rows: Sequence[TokenizedRow],
    training: DictConfig,
    *,
    folder: Path,
    log_prefix: str,
) -> tuple[PeftModel, float]:
    """Leave one checkpoint an epoch in ``folder``; a stopped training goes on after the last one that is there.

    Args:
        experiment: whose seed, device, loggers and processes are used.
        model_in_use: gets a fresh adapter.
        rows: what to train on.
        training: the settings, a node of the configuration.
        folder: gets the ``epoch=K`` folders.
        log_prefix: first part of the metric names.

    Returns:
        The trained model, and the arithmetic of all epochs in FLOP.
    """
    settings, cfg = training_settings(training), experiment.cfg
    model = model_in_use.load_with_adapter(seed=cfg.seed)
    done = checkpoints_in(folder)
    last = read_checkpoint(done[-1]) if done else None
    if len(done) == settings.epochs:
        copy_into(model, last.adapter)
    else:
        fit(
            model,
            rows,
            settings,
            micro_batch_size=cfg.micro_batch_size,
            pad_token_id=model_in_use.tokenizer.pad_token_id,
            seed=cfg.seed,
            log_prefix=log_prefix,
            device=experiment.device,
            loggers=experiment.loggers,
            log_folder=experiment.run_folder,
            team=experiment.team,
            checkpoint_root=folder,
            resume_from=last,
        )
    experiment.team.meet()
    if len(checkpoints_in(folder)) != settings.epochs:
        raise RuntimeError(f"{folder} holds {len(checkpoints_in(folder))} of {settings.epochs} checkpoints")
    n_tokens = settings.epochs * int(lengths_of(rows).sum())
    return model, training_flops(model.num_parameters(), n_tokens)
