"""Steps of the trainings to come: whether they train anything, and on how many rows."""

import math
from collections.abc import Iterator

from omegaconf import DictConfig

from lessexp.stages.checkpoints import trains_warmup
from lessexp.stages.configuration import ExperimentError, training_settings
from lessexp.stages.experiment import Experiment
from lessexp.training.schedule import epoch_mean_rates


def _trainings(experiment: Experiment) -> Iterator[tuple[str, DictConfig, int]]:
    """Stage, settings and number of rows of each training of an adapter or a model."""
    cfg, stages = experiment.cfg, experiment.cfg.selector.stages
    if "warmup" in stages and trains_warmup(experiment.cfg):
        yield "warmup", cfg.warmup.training, experiment.n_warmup
    if "finetune" in stages:
        yield "finetune", cfg.finetune.training, experiment.n_selected


def check_learning_rates(experiment: Experiment) -> None:
    """Check every training of an experiment, see `check_learning_rate`."""
    for stage, node, n_rows in _trainings(experiment):
        check_learning_rate(stage, node, n_rows)


def check_learning_rate(stage: str, node: DictConfig, n_rows: int) -> None:
    """Refuse a training of one step that is the first of a rise, where the learning rate is 0.

    Args:
        stage: that trains.
        node: its settings.
        n_rows: that it trains on.

    Raises:
        ExperimentError: nothing would be trained.
    """
    if not any(_epoch_rates(node, n_rows)):
        raise ExperimentError(
            f"{stage}: its only step is the first of the schedule's rise, where the learning rate is 0, so nothing "
            f"would be trained; set {stage}.training.warmup_ratio=0 or raise {stage}.training.epochs"
        )


def _epoch_rates(node: DictConfig, n_rows: int) -> list[float]:
    training = training_settings(node)
    return epoch_mean_rates(
        schedule=training.schedule,
        learning_rate=training.learning_rate,
        warmup_ratio=training.warmup_ratio,
        epochs=training.epochs,
        steps_per_epoch=math.ceil(n_rows / training.batch_size),
    )


def notes_on_few_rows(experiment: Experiment) -> Iterator[str]:
    """A sentence for each share of the pool that is less than one row, and each training on less than one batch."""
    cfg, n_pool, n_usable = experiment.cfg, len(experiment.pool), len(experiment.usable_pool)
    shares = [("select", "fraction", cfg.selector.fraction, n_pool)]
    if "warmup" in cfg.selector.stages and trains_warmup(experiment.cfg):
        shares.append(("warmup", "warmup.fraction", cfg.warmup.fraction, n_usable))
    for stage, key, fraction, n_rows in shares:
        if round(fraction * n_rows, 9) < 1:
            yield f"{stage}: {key}={fraction} of {n_rows} rows is less than one row, so 1 row is taken"
    trainings = [(stage, node.batch_size, n_rows) for stage, node, n_rows in _trainings(experiment)]
    if "proxy" in cfg.selector.stages and experiment.proxy.is_aligned:
        n_rows = len(experiment.proxy.alignment_rows) - cfg.alignment.n_held_out
        trainings.append(("alignment", cfg.alignment.settings.batch_size, n_rows))
    for stage, batch_size, n_rows in trainings:
        if n_rows < batch_size:
            short = f"{n_rows} of {n_usable} rows, less than one batch of {batch_size}"
            yield f"{stage}: {short}; each step takes all of them"


def notes_on_weights(experiment: Experiment) -> Iterator[str]:
    """A sentence if the first checkpoint weighs nothing beside others, although gradients are computed at it."""
    cfg = experiment.cfg
    if "gradients" not in cfg.selector.stages or not trains_warmup(cfg):
        return
    first, *_ = _epoch_rates(cfg.warmup.training, experiment.n_warmup)
    chosen = cfg.warmup.checkpoints or range(1, cfg.warmup.training.epochs + 1)
    others = ",".join(str(epoch) for epoch in chosen if epoch != 1)
    if first == 0 and 1 in chosen and others:
        yield (
            "warmup: the only step of epoch 1 is the first of the schedule's rise, where the learning rate is 0, so "
            f"checkpoint 1 weighs nothing; set warmup.training.warmup_ratio=0 or 'warmup.checkpoints=[{others}]'"
        )
