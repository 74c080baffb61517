"""What cannot work is found here, before anything is computed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from lessexp.data.target import EmptyTargetError
from lessexp.data.tokenize import TOO_LONG
from lessexp.evaluation.leaks import QuestionIndex, is_held_out, refuse_leaks
from lessexp.gradients.adam import AdamDirection
from lessexp.gradients.codecs import CODECS
from lessexp.gradients.identity import identity_over_adapter
from lessexp.gradients.spaces import factor
from lessexp.models.causal_lm import floating_point_type
from lessexp.models.quantization import quantization_config
from lessexp.models.source import check_model_is_named
from lessexp.stages.configuration import (
    ExperimentError,
    error_place,
    instantiate,
    lora_settings,
    missing_keys_named,
    training_settings,
)
from lessexp.stages.experiment import Experiment
from lessexp.stages.model_checks import check_models, check_that_models_can_read
from lessexp.stages.progress import say
from lessexp.stages.training_steps import check_learning_rates, notes_on_few_rows, notes_on_weights
from lessexp.training.checkpoint import checkpoints_in, epoch_of
from lessexp.training.schedule import SCHEDULES
from lessexp.training.trainer import STRATEGIES
from lessexp.wholeness import check_whole

_SCORE_COLUMNS = {"example_id", "dataset", "score", "checkpoint"}


@missing_keys_named()
def preflight(experiment: Experiment) -> None:
    """Check rows and models of an experiment against its settings, and announce shares of few rows.

    The rows come first, as they are in their files, then the models without their values, and last whatever takes a
    tokenizer; both may have to be downloaded. `check_settings` goes before.

    Raises:
        UserError: naming the key or the row, and what to do.
    """
    stages = experiment.cfg.selector.stages
    selects_by_model = "warmup" in stages or "representations" in stages
    if "warmup" in stages:
        _check_warmup(experiment)
    _check_rows(experiment)
    check_models(experiment)
    _check_usable_rows(experiment)
    if "evaluate" in stages:
        _check_benchmark(experiment)
        _check_leaks(experiment)
    check_that_models_can_read(experiment)
    if "finetune" in stages:
        experiment.tuning.check(experiment.model.model)
    if selects_by_model:
        _check_proxy(experiment)
        _check_that_another_model_selects(experiment)
    if "warmup" in stages:
        _check_space(experiment)
    check_learning_rates(experiment)
    for note in (*notes_on_few_rows(experiment), *notes_on_weights(experiment)):
        say(note)


@missing_keys_named()
def check_settings(experiment: Experiment) -> None:
    """Check what settings tell by themselves, before a row is read or a file fetched.

    Raises:
        UserError: naming the key, and what to do.
    """
    cfg = experiment.cfg
    for model in (cfg.model, cfg.selection_model):
        check_model_is_named(path=model.path, source=instantiate(model.source), key=error_place(model))
    _check_device(experiment.device)
    _check_choice("trainer.strategy", cfg.trainer.strategy, STRATEGIES)
    if cfg.trainer.strategy == "fsdp" and (cfg.model.quantization or cfg.selection_model.quantization):
        raise ExperimentError("trainer=fsdp cannot spread the rounded weights of model.quantization; use trainer=ddp")
    for model in (cfg.model, cfg.selection_model):
        _check_weights(model)
    for key, training in (("warmup", cfg.warmup.training), ("finetune", cfg.finetune.training)):
        _check_choice(f"{key}.training.schedule", training_settings(training).schedule, SCHEDULES)
    _check_choice("datastore.dtype", cfg.datastore.dtype, CODECS)
    for index, other in enumerate(cfg.datastore.also):
        _check_choice(f"datastore.also.{index}.dtype", other.get("dtype", cfg.datastore.dtype), CODECS)
    if "${paths." not in str(OmegaConf.to_container(cfg.projection)):  # what it is made of is there already
        instantiate(cfg.projection)
    if "evaluate" in cfg.selector.stages:
        _check_longest_answer(cfg)
    if "representations" in cfg.selector.stages:
        _check_choice("selector.representations.dtype", cfg.selector.representations.dtype, CODECS)


def _check_choice(key: str, value: Any, choices: Mapping[str, Any]) -> None:
    if value not in choices:
        raise ExperimentError(f"{key} must be one of {', '.join(choices)}, got {value!r}")


def _check_longest_answer(cfg: DictConfig) -> None:
    longest, max_length = cfg.benchmark.get("max_new_tokens"), cfg.evaluation.max_length
    if longest is not None and longest >= max_length:
        raise ExperimentError(
            f"benchmark.max_new_tokens={longest} leaves nothing of evaluation.max_length={max_length} for the "
            "question; lower the one or raise the other"
        )


def _check_device(device: str) -> None:
    try:
        if torch.empty(0, device=device).is_meta:
            raise ExperimentError(f"device={device} holds no values; use device=cpu or cuda")
    # A name that torch does not know, a kind that it was not built with, and a number that is not there.
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise ExperimentError(f"device={device}, but torch finds no such device; use device=cpu") from error


def _check_rows(experiment: Experiment) -> None:
    if not experiment.target:
        raise EmptyTargetError("the target holds no row; check target")
    if taken := _SCORE_COLUMNS & {row.subtask for row in experiment.target}:
        raise ExperimentError(f"subtask '{min(taken)}' is the name of a column of scores.parquet; rename it")
    if not experiment.pool:
        raise ExperimentError("the pool holds no row; check data")


def _check_usable_rows(experiment: Experiment) -> None:
    _, dropped = experiment.tokenized_target
    if dropped:
        example_id, reason = dropped[0].example_id, dropped[0].reason
        remedy = "set target_max_length to more, or " if reason.startswith(TOO_LONG) else ""
        raise ExperimentError(f"target example '{example_id}': {reason}; {remedy}take the row out of the target")
    if not experiment.usable_pool:
        # The first that is not merely long: a greater length would not help it.
        others = (item for item in experiment.unusable.items() if not item[1].startswith(TOO_LONG))
        if other := next(others, None):
            raise ExperimentError(f"no pool row can be learnt from; '{other[0]}': {other[1]}")
        raise ExperimentError(
            f"no pool row has an answer within max_length={experiment.cfg.max_length}; raise max_length"
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
    subtask_of = {row.example_id: row.subtask for row in rows}
    judged = {subtask_of[row.example_id] for row in kept}
    for row in dropped:
        if (subtask := subtask_of[row.example_id]) not in judged:
            raise ExperimentError(
                f"no test row of '{subtask}' can be judged; the first, '{row.example_id}': {row.reason}; "
                f"raise evaluation.max_length={experiment.cfg.evaluation.max_length}, or take '{subtask}' out of the "
                "benchmark"
            )
    if dropped:
        say(
            f"{len(dropped)} of {len(rows)} test rows cannot be judged and are left out, see stages/evaluate.json; "
            f"the first, '{dropped[0].example_id}': {dropped[0].reason}"
        )
    _check_prompts(experiment)


def _check_prompts(experiment: Experiment) -> None:
    """Announce prompts that would lose their start, and refuse a benchmark all of whose prompts would."""
    rows, max_length = experiment.benchmark_rows, experiment.cfg.evaluation.max_length
    cut = experiment.benchmark.cut(rows, experiment.model, max_length=max_length)
    if not cut:
        return
    sentence = (
        f"{len(cut)} of {len(rows)} test prompts lose their start, for with the longest answer they exceed "
        f"evaluation.max_length={max_length}; the first is '{cut[0]}'; raise evaluation.max_length, or lower "
        "benchmark.max_new_tokens"
    )
    if len(cut) == len(rows):
        raise ExperimentError(sentence)
    say(f"warning: {sentence}")


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
    n_held_out, n_usable = experiment.cfg.alignment.n_held_out, len(experiment.usable_pool)
    if not experiment.proxy.has_factors:
        raise ExperimentError("only low-rank proxies can be aligned; set proxy=ipsvd, or alignment=off")
    if not 3 <= n_held_out < n_usable:
        raise ExperimentError(
            f"alignment.n_held_out={n_held_out} must be at least 3 and leave a row to train on; the pool has "
            f"{n_usable} usable rows"
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
        experiment.imported_warmup.check(lora_settings(experiment.cfg))
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
        _check_checkpoints_chosen(experiment, range(1, experiment.cfg.warmup.training.epochs + 1))


def _check_checkpoints_chosen(experiment: Experiment, there: Sequence[int]) -> None:
    chosen = experiment.cfg.warmup.checkpoints
    if chosen is not None and not (chosen and set(chosen) <= set(there) and len(set(chosen)) == len(chosen)):
        raise ExperimentError(
            f"warmup.checkpoints={list(chosen)} must name one or more of the checkpoints {list(there)}, each once"
        )
