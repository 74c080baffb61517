"""From configuration nodes to plain values and objects."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, TypeVar

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, InterpolationKeyError, MissingMandatoryValue

from lessexp.errors import ExperimentError, UserError
from lessexp.models.lora import LoraSettings
from lessexp.training.module import TrainingSettings

Settings = TypeVar("Settings", LoraSettings, TrainingSettings)


def missing(key: str) -> ExperimentError:
    """What is raised of a key that the command line has taken out of its group."""
    return ExperimentError(f"{key} is missing; leave it in place and give it another value")


@contextmanager
def missing_keys_named() -> Iterator[None]:
    """Name a key that the command line has taken out of its group.

    Raises:
        ExperimentError: the code inside reads a key that is not there.
    """
    try:
        yield
    except (ConfigAttributeError, ConfigKeyError) as error:
        raise missing(error.full_key) from error


def plain(node: Any) -> Any:
    """A configuration node as dictionaries, lists and values."""
    return OmegaConf.to_container(node, resolve=True)


def instantiate(node: Any, *args: Any, **kwargs: Any) -> Any:
    """What a node's ``_target_`` makes; an error of the user's making comes out as itself, not wrapped.

    Raises:
        ExperimentError: the node is a plain value, or its settings make nothing.
    """
    if not isinstance(node, DictConfig | ListConfig):
        raise ExperimentError(f"{node!r:.80} stands where an option with its settings belongs; leave it as it is")
    try:
        return hydra.utils.instantiate(node, *args, _convert_="all", **kwargs)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        if isinstance(cause, TypeError | ValueError | OverflowError):
            reason = (str(cause).splitlines() or [""])[0]
            raise ExperimentError(
                f"{error_place(node)} cannot be made of its settings; {type(cause).__name__}: {reason:.200}"
            ) from error
        if not str(error).startswith("Error in"):  # it came to no call: a _target_ is not found, or is nothing to call
            raise ExperimentError(f"{error_place(node)}: {str(error).splitlines()[0]:.200}") from error
        raise
    except InterpolationKeyError as error:
        raise ExperimentError(
            f"{str(error).splitlines()[0]}: the options chosen do not go together (a benchmark and its target, say)"
        ) from None
    except MissingMandatoryValue as error:
        raise ExperimentError(
            f"{error.full_key} is not set; give it on the command line: {error.full_key}=..."
        ) from None


def error_place(node: DictConfig | ListConfig) -> str:
    """Where a node stands in the configuration."""
    return node._get_full_key(None) or "the configuration"


def lora_settings(cfg: DictConfig) -> LoraSettings:
    """The adapter that both warm-up and final training use."""
    return _settings(LoraSettings, cfg.lora)


def training_settings(node: DictConfig) -> TrainingSettings:
    """The settings under ``warmup.training`` or ``finetune.training``."""
    return _settings(TrainingSettings, node)


def _settings(kind: type[Settings], node: DictConfig) -> Settings:
    """Settings in their types; ``lora.dropout=0`` is as good as 0.0."""
    values = plain(node)
    for field in fields(kind):
        if field.type is float:
            values[field.name] = float(values[field.name])
        elif field.type == tuple[float, float]:
            values[field.name] = tuple(map(float, values[field.name]))
        elif field.type == tuple[str, ...]:
            values[field.name] = tuple(values[field.name])
    return kind(**values)


def training_fields(cfg: DictConfig, node: DictConfig, *, n_processes: int) -> dict[str, Any]:
    """All that determines such a training besides model and rows."""
    return {
        "training": plain(node),
        "seed": cfg.seed,
        # Dropout draws its numbers micro-batch by micro-batch, in each process.
        "micro_batch_size": cfg.micro_batch_size if cfg.lora.dropout else None,
        **({"processes": n_processes} if cfg.lora.dropout and n_processes > 1 else {}),
    }
