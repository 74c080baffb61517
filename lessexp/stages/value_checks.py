"""Which values single settings may have, whatever the others are."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lessexp.stages.configuration import ExperimentError, missing

_MISSING = object()
_LARGEST = 2**31 - 1  # beyond it sizes overflow in one library or another
_MOST_EPOCHS = 10_000  # each has a checkpoint, and each of its steps a rate that is worked out beforehand
Rule = tuple[str, Callable[[Any], bool]]
"""What a value must be, in words, and whether one is."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _whole(least: int, most: int = _LARGEST) -> Rule:
    return f"a whole number from {least} to {most}", lambda value: type(value) is int and least <= value <= most


def _or_null(rule: Rule) -> Rule:
    return f"null or {rule[0]}", lambda value: value is None or rule[1](value)


_ABOVE_0: Rule = ("a number above 0", lambda value: _is_number(value) and value > 0)
_FROM_0: Rule = ("a number of 0 or more", lambda value: _is_number(value) and value >= 0)
_SHARE: Rule = ("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1)
_BELOW_1: Rule = ("a number from 0 to below 1", lambda value: _is_number(value) and 0 <= value < 1)
_INSIDE: Rule = ("a number above 0 and below 1", lambda value: _is_number(value) and 0 < value < 1)
_NUMBER: Rule = ("a number", _is_number)
_YES_OR_NO: Rule = ("true or false", lambda value: isinstance(value, bool))
_TEXT: Rule = ("a text without a NUL", lambda value: isinstance(value, str) and value != "" and "\0" not in value)
_TEXTS: Rule = (
    "a list of texts",
    lambda value: isinstance(value, list) and bool(value) and all(isinstance(one, str) and one for one in value),
)
_WHOLE_NUMBERS: Rule = (
    "a list of whole numbers",
    lambda value: isinstance(value, list) and all(type(one) is int for one in value),
)
_BETAS: Rule = (
    "two numbers from 0 to below 1",
    lambda value: isinstance(value, list) and len(value) == 2 and all(map(_BELOW_1[1], value)),
)
_OBJECTS: Rule = (
    "a list of {key: value}",
    lambda value: isinstance(value, list) and all(isinstance(one, dict) for one in value),
)

_TRAINING: Mapping[str, Rule] = {
    "epochs": _whole(1, _MOST_EPOCHS),
    "batch_size": _whole(1),
    "learning_rate": _ABOVE_0,
    "schedule": _TEXT,
    "warmup_ratio": _SHARE,
    "betas": _BETAS,
    "eps": _FROM_0,
    "weight_decay": _FROM_0,
    "max_grad_norm": _ABOVE_0,
}
RULES: Mapping[str, Rule] = {
    "seed": _whole(0),
    "device": _or_null(_TEXT),
    "fraction": _NUMBER,
    "selector.fraction": _NUMBER,
    "max_length": _whole(1),
    "target_max_length": _whole(1),
    "micro_batch_size": _whole(1),
    "proj_dim": _whole(1),
    "resume": _YES_OR_NO,
    "artifacts_dir": _TEXT,
    "cache_dir": _TEXT,
    "datastore.dtype": _TEXT,
    "datastore.rows_per_shard": _whole(1),
    "datastore.also": _OBJECTS,
    "pool_sample.n_rows": _or_null(_whole(1)),
    "pool_sample.seed": _whole(0),
    "preparation.in_memory_below": _whole(0),
    "preparation.num_proc": _or_null(_whole(1)),
    "benchmark.limit": _or_null(_whole(1)),
    "evaluation.max_length": _whole(1),
    "evaluation.max_new_tokens": _whole(1),
    "evaluation.tokens_per_batch": _whole(1),
    "evaluation.bootstrap.n_resamples": _whole(1),
    "evaluation.bootstrap.confidence": _INSIDE,
    "evaluation.leaks.ngram": _whole(1),
    "evaluation.leaks.pool_share": _SHARE,
    "lora.rank": _whole(1),
    "lora.alpha": _whole(1),
    "lora.dropout": _BELOW_1,
    "lora.target_modules": _TEXTS,
    "logger.share_rows": _YES_OR_NO,
    "logger.loggers": _OBJECTS,
    "selector.stages": _TEXTS,
    "trainer.activation_checkpointing": _YES_OR_NO,
    "proxy.steps": _OBJECTS,
    "proxy.sparsity": _INSIDE,
    "proxy.rank_multiple": _whole(1),
    "proxy.probes.n_rows": _whole(1),
    "proxy.probes.seed": _whole(0),
    "proxy.probes.tokens_per_batch": _whole(1),
    "alignment.n_rows": _whole(1),
    "alignment.n_held_out": _whole(3),
    "alignment.proj_dim": _whole(1),
    "alignment.seed": _whole(0),
    "alignment.settings.epochs": _whole(1, _MOST_EPOCHS),
    "alignment.settings.batch_size": _whole(1),
    "alignment.settings.learning_rate": _ABOVE_0,
    "alignment.settings.weight_decay": _FROM_0,
    "alignment.settings.anchor_weight": _FROM_0,
    "alignment.settings.temperature": _ABOVE_0,
    "alignment.settings.check_every": _whole(1),
    "warmup.fraction": _NUMBER,
    "warmup.path": _or_null(_TEXT),
    "warmup.checkpoints": _or_null(_WHOLE_NUMBERS),
    **{
        f"{node}.{key}": rule
        for node in ("model", "selection_model")
        for key, rule in {"path": _or_null(_TEXT), "dtype": _TEXT, "quantization": _or_null(_TEXT)}.items()
    },
    **{f"{node}.training.{key}": rule for node in ("warmup", "finetune") for key, rule in _TRAINING.items()},
}


_GROUPS = (
    *("datastore", "pool_sample", "preparation", "evaluation", "evaluation.bootstrap", "evaluation.leaks"),
    *("model", "selection_model", "lora", "warmup", "warmup.training", "finetune", "finetune.training"),
    *("gradients", "projection", "selector", "logger", "trainer", "proxy", "alignment", "paths"),
    *("proxy.probes", "alignment.settings"),
)


def check_values(cfg: DictConfig) -> None:
    """Check every setting that has a rule; those of a proxy or an alignment that is not asked for are passed over.

    Raises:
        ExperimentError: naming the key, what it must be and what it is.
    """
    for key, group in _found(cfg, _GROUPS):
        if not OmegaConf.is_dict(group):
            raise ExperimentError(
                f"{key} must be a group of settings, it is {group!r:.80}; set single ones, as {key}.NAME=..."
            )
    for key, value in _found(cfg, RULES):
        wanted, is_right = RULES[key]
        if not is_right(value):
            raise ExperimentError(f"{key} must be {wanted}, got {value!r:.80}")


def _found(cfg: DictConfig, keys: Iterable[str]) -> Iterator[tuple[str, Any]]:
    for key in keys:
        value = _selected(cfg, key)
        if value is not _MISSING:
            yield key, value
        elif not key.startswith(("proxy.", "alignment.")):
            raise missing(key)


def _selected(cfg: DictConfig, key: str) -> Any:
    """A setting, a list as plain values."""
    try:
        found = OmegaConf.select(cfg, key, default=_MISSING, throw_on_missing=True)
        return OmegaConf.to_container(found, resolve=True) if OmegaConf.is_list(found) else found
    except OmegaConfBaseException as error:
        raise ExperimentError(f"{key}: {str(error).splitlines()[0]}; give it another value") from None
