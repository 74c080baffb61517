"""What cannot work is found here, before anything is computed."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_object
from omegaconf import DictConfig

from lessexp.data.target import EmptyTargetError
from lessexp.evaluation.leaks import QuestionIndex, is_held_out, refuse_leaks
from lessexp.gradients.adam import AdamDirection
from lessexp.gradients.codecs import CODECS
from lessexp.gradients.identity import identity_over_adapter
from lessexp.gradients.spaces import factor
from lessexp.models.causal_lm import floating_point_type
from lessexp.models.quantization import quantization_config
from lessexp.selection.top_k import budget
from lessexp.stages.configuration import ExperimentError, missing_keys_named, training_settings
from lessexp.stages.experiment import Experiment
from lessexp.training.checkpoint import checkpoints_in, epoch_of
from lessexp.training.schedule import SCHEDULES, epoch_mean_rates
from lessexp.training.trainer import STRATEGIES
from lessexp.wholeness import check_whole

_SCORE_COLUMNS = {"example_id", "dataset", "score", "checkpoint"}


@missing_keys_named()
def preflight(experiment: Experiment) -> None:
    """Check settings, rows and models of an experiment against each other.

    Raises:
        UserError: naming the key or the row, and what to do.
    """
    _check_settings(experiment)
    _check_target(experiment)
    _check_pool(experiment)
    _check_weights(experiment.cfg.model)
    stages = experiment.cfg.selector.stages
    if "evaluate" in stages:
        _check_benchmark(experiment)
        _check_leaks(experiment)
    if "finetune" in stages:
        _check_finetuning(experiment)
    if "warmup" in stages or "representations" in stages:
        _check_weights(experiment.cfg.selection_model)
        _check_proxy(experiment)
        _check_that_another_model_selects(experiment)
    if "warmup" in stages:
        _check_warmup(experiment)
        _check_space(experiment)
    if "representations" in stages:
        _check_choice("selector.representations.dtype", experiment.cfg.selector.representations.dtype, CODECS)


def _check_settings(experiment: Experiment) -> None:
    cfg = experiment.cfg
    if experiment.device.startswith("cuda") and not torch.cuda.is_available():
        raise ExperimentError(f"device={experiment.device}, but torch finds no CUDA device; use device=cpu")
    _check_choice("trainer.strategy", cfg.trainer.strategy, STRATEGIES)
    if cfg.trainer.strategy == "fsdp" and (cfg.model.quantization or cfg.selection_model.quantization):
        raise ExperimentError("trainer=fsdp cannot spread the rounded weights of model.quantization; use trainer=ddp")
    for key, training in (("warmup", cfg.warmup.training), ("finetune", cfg.finetune.training)):
        _check_choice(f"{key}.training.schedule", training_settings(training).schedule, SCHEDULES)
    for store in experiment.stores:
        _check_choice("datastore.dtype", store.dtype, CODECS)


def _check_choice(key: str, value: Any, choices: Mapping[str, Any]) -> None:
    if value not in choices:
        raise ExperimentError(f"{key} must be one of {', '.join(choices)}, got {value!r}")


def _check_target(experiment: Experiment) -> None:
    if not experiment.target:
        raise EmptyTargetError("the target holds no row; check target")
    if taken := _SCORE_COLUMNS & {row.subtask for row in experiment.target}:
        raise ExperimentError(f"subtask '{min(taken)}' is the name of a column of scores.parquet; rename it")
    _, dropped = experiment.tokenized_target
    if dropped:
        raise ExperimentError(
            f"target example '{dropped[0].example_id}': {dropped[0].reason}; set target_max_length to more, "
            "or take the row out of the target"
        )


def _check_pool(experiment: Experiment) -> None:
    if not experiment.pool:
        raise ExperimentError("the pool holds no row; check data")
    budget(experiment.cfg.selector.fraction, len(experiment.pool))  # at least one row
    if not experiment.usable_pool:
        raise ExperimentError(
            f"no pool row has an answer within max_length={experiment.cfg.max_length}; raise max_length"
        )


def _check_finetuning(experiment: Experiment) -> None:
    experiment.tuning.check(experiment.model)
    batch_size = experiment.cfg.finetune.training.batch_size
    if experiment.n_selected < batch_size:
        n_selected = budget(experiment.cfg.selector.fraction, len(experiment.pool))
        raise ExperimentError(
            f"fraction={experiment.cfg.selector.fraction} selects {n_selected} of {len(experiment.pool)} rows, "
            f"{len(experiment.usable_pool)} of them usable, fewer than one batch of "
            f"finetune.training.batch_size={batch_size}"
        )


def _check_benchmark(experiment: Experiment) -> None:
    if experiment.benchmark.left_out and not experiment.benchmark.rows():
        raise ExperimentError(
            "every test question is one of the solved examples too; set benchmark.path to a file of other questions"
        )
    if not experiment.benchmark.rows():
        raise ExperimentError("the benchmark holds no row; check benchmark")
    rows = experiment.benchmark_rows
    kept, dropped = experiment.tokenized_benchmark_rows
    if not kept:
        raise ExperimentError(f"no benchmark row can be judged; the first, '{rows[0].example_id}': {dropped[0].reason}")


def _check_leaks(experiment: Experiment) -> None:
    # A benchmark of nothing but target rows is asked for as such, and the report says so.
    if is_held_out(experiment.benchmark_rows, experiment.target):
        ngram = experiment.cfg.evaluation.leaks.ngram
        index = QuestionIndex(experiment.benchmark.questions(), ngram=ngram, min_share=1.0)
        texts = ((row.example_id, (content for _, content in row.messages)) for row in experiment.target)
        refuse_leaks(index.leaks(texts), what="target rows")


def _check_weights(model: DictConfig) -> None:
    quantization_config(model.quantization, dtype=floating_point_type(model.dtype))


def _check_proxy(experiment: Experiment) -> None:
    cfg, proxy = experiment.cfg, experiment.proxy
    if not proxy.is_asked_for:
        return
    _check_choice("proxy.adapter_from", cfg.proxy.adapter_from, dict.fromkeys(("target", "proxy")))
    if proxy.has_factors and cfg.proxy.steps:
        raise ExperimentError(
            "proxy.steps and proxy.factors: factors are made of the whole model's layers, which steps may alter; leave "
            "one of both empty"
        )
    if proxy.takes_targets_adapter and cfg.proxy.steps:
        raise ExperimentError(
            "proxy.adapter_from=target: the adapter may have layers that a proxy made by proxy.steps lacks; "
            "set proxy.adapter_from=proxy"
        )
    if cfg.alignment.factor_gradients is not None:
        _check_alignment(experiment)
    quantization = cfg.selection_model.quantization
    if quantization is not None:
        raise ExperimentError(
            f"a proxy is made from weights that selection_model.quantization={quantization} rounds; "
            "set it to null, or proxy=none"
        )


def _check_alignment(experiment: Experiment) -> None:
    settings = experiment.cfg.alignment
    if not experiment.proxy.has_factors:
        raise ExperimentError("only low-rank proxies can be aligned; set proxy=ipsvd, or alignment=off")
    n_left = len(experiment.usable_pool) - settings.n_held_out
    if settings.n_held_out < 3 or n_left < settings.settings.batch_size:
        raise ExperimentError(
            f"alignment.n_held_out={settings.n_held_out} must be 3 at least and leave "
            f"alignment.settings.batch_size={settings.settings.batch_size} of {len(experiment.usable_pool)} usable rows"
        )


def _check_space(experiment: Experiment) -> None:
    cfg = experiment.cfg
    if not experiment.has_space_of_its_own:
        return
    if get_object(cfg.gradients.direction._target_) is AdamDirection:
        raise ExperimentError("a warm-up has Adam's moments of its adapter alone; set gradients=sgd, or space=lora")
    if get_object(cfg.projection._target_) is identity_over_adapter:
        raise ExperimentError("projection=identity is over an adapter's parameters; choose another, or space=lora")
    if get_object(cfg.space._target_) is factor and not experiment.proxy.has_factors:
        raise ExperimentError("space=factor needs a low-rank proxy; set proxy=ipsvd, activation_svd or svd")


def _check_that_another_model_selects(experiment: Experiment) -> None:
    selector = experiment.cfg.selector
    if selector.get("selection_model_must_differ", False) and (
        experiment.selection_model.folder == experiment.model.folder
    ):
        raise ExperimentError(
            f"selector={selector.name} needs another model to select than the one that is trained, "
            f"{experiment.cfg.model.name}; set selection_model=... (and selection_model.path=... for a local folder)"
        )


def _check_warmup(experiment: Experiment) -> None:
    path = experiment.cfg.warmup.path
    if experiment.cfg.warmup.importer:
        if not path:
            raise ExperimentError("warmup=import needs warmup.path=..., the folder that holds the checkpoints")
        experiment.imported_warmup.check(experiment.selection_model.lora)
        _check_checkpoints_chosen(experiment, range(1, len(experiment.imported_warmup.checkpoints) + 1))
    elif path:
        folders = checkpoints_in(Path(path))
        if not folders:
            raise ExperimentError(
                f"warmup.path={path} holds no folder epoch=1, epoch=2, ...; give a warm-up's folder, "
                "or warmup=import for checkpoints of another trainer"
            )
        check_whole(Path(path))
        _check_checkpoints_chosen(experiment, [epoch_of(folder) for folder in folders])
    elif experiment.cfg.warmup.fraction == 0:
        _check_checkpoints_chosen(experiment, [0])
    else:
        _check_warmup_to_train(experiment)
        _check_checkpoints_chosen(experiment, range(1, experiment.cfg.warmup.training.epochs + 1))
        _check_that_a_checkpoint_weighs_something(experiment)


def _check_checkpoints_chosen(experiment: Experiment, there: Sequence[int]) -> None:
    chosen = experiment.cfg.warmup.checkpoints
    if chosen is not None and not (chosen and set(chosen) <= set(there) and len(set(chosen)) == len(chosen)):
        raise ExperimentError(
            f"warmup.checkpoints={list(chosen)} must name one or more of the checkpoints {list(there)}, each once"
        )


def _check_that_a_checkpoint_weighs_something(experiment: Experiment) -> None:
    """A schedule that falls to zero ends in a step of rate zero, which may be all of the last epoch."""
    training = training_settings(experiment.cfg.warmup.training)
    rates = epoch_mean_rates(
        schedule=training.schedule,
        learning_rate=training.learning_rate,
        warmup_ratio=training.warmup_ratio,
        epochs=training.epochs,
        steps_per_epoch=math.ceil(experiment.n_warmup / training.batch_size),
    )
    chosen = experiment.cfg.warmup.checkpoints or range(1, training.epochs + 1)
    if not any(rates[epoch - 1] for epoch in chosen):
        raise ExperimentError(
            f"the mean learning rate before checkpoint {' and '.join(map(str, chosen))} is 0, so nothing would be "
            "weighed; choose others by warmup.checkpoints, or raise warmup.fraction or warmup.training.epochs"
        )


def _check_warmup_to_train(experiment: Experiment) -> None:
    fraction = experiment.cfg.warmup.fraction
    if not 0 < fraction <= 1:
        raise ExperimentError(f"warmup.fraction must be from 0 (no warm-up) to 1, got {fraction}")
    batch_size = experiment.cfg.warmup.training.batch_size
    if experiment.n_warmup < batch_size:
        raise ExperimentError(
            f"warmup.fraction={fraction} gives {experiment.n_warmup} of {len(experiment.usable_pool)} rows, "
            f"fewer than one batch of warmup.training.batch_size={batch_size}"
        )
