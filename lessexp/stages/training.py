"""Training epoch by epoch in an artifact's folder, from the last epoch that is there: warm-up and final."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lessexp.data.tokenize import TokenizedRow, lengths_of
from lessexp.stages.configuration import training_settings
from lessexp.stages.experiment import Experiment
from lessexp.stages.model_in_use import ModelInUse
from lessexp.stages.tuning import Tuning
from lessexp.training.checkpoint import checkpoints_in, epoch_of, read_checkpoint, read_trainer_state
from lessexp.training.fit import fit


def train_epochs(
    experiment: Experiment,
    model_in_use: ModelInUse,
    rows: Sequence[TokenizedRow],
    training: DictConfig,
    *,
    folder: Path,
    log_prefix: str,
    tuning: Tuning,
    keeps_all_checkpoints: bool,
) -> dict[str, Any]:
    """Leave checkpoints of epochs in ``folder``; a stopped training goes on after the last one that is there.

    Args:
        experiment: whose seed, loggers and engine are used.
        model_in_use: the model.
        rows: what to train on.
        training: the settings, a node of the configuration.
        folder: gets the ``epoch=K`` folders.
        log_prefix: first part of the metric names.
        tuning: what of the model is trained.
        keeps_all_checkpoints: whether those of earlier epochs stay.

    Returns:
        The rows trained on, the optimizer steps and the arithmetic in FLOP, of all epochs.
    """
    settings, cfg, engine = training_settings(training), experiment.cfg, experiment.engine
    if engine.spreads_model:  # whole in the computer's memory; a device gets its part
        model_in_use = replace(model_in_use, device="cpu")
    model = tuning.fresh(model_in_use, seed=cfg.seed)
    n_parameters = model.num_parameters()
    done = checkpoints_in(folder)
    if not done or epoch_of(done[-1]) < settings.epochs:
        fit(
            model,
            rows,
            settings,
            micro_batch_size=cfg.micro_batch_size,
            pad_token_id=model_in_use.tokenizer.pad_token_id,
            seed=cfg.seed,
            log_prefix=log_prefix,
            engine=engine,
            precision=tuning.precision(model_in_use),
            part=tuning.part,
            loggers=experiment.loggers,
            log_folder=experiment.run_folder,
            checkpoint_root=folder,
            keeps_all_checkpoints=keeps_all_checkpoints,
            resume_from=read_checkpoint(done[-1], part=tuning.part) if done else None,
        )
    experiment.team.meet()
    last = read_trainer_state(checkpoints_in(folder)[-1])
    if last.epoch != settings.epochs:
        raise RuntimeError(f"{folder} holds {last.epoch} of {settings.epochs} epochs")
    experiment.team.meet()  # from here on the leader may move them
    n_tokens = settings.epochs * int(lengths_of(rows).sum())
    return {"n_rows": len(rows), "n_steps": last.step, "flops": tuning.flops(n_parameters, n_tokens)}
