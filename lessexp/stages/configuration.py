"""From configuration nodes to plain values and objects."""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, InterpolationKeyError, MissingMandatoryValue

from lessexp.errors import ExperimentError, UserError
from lessexp.identity import hash_of, identity_of
from lessexp.models.lora import LoraSettings
from lessexp.training.module import TrainingSettings

Settings = TypeVar("Settings", LoraSettings, TrainingSettings)

_ALTERS_NO_RESULT = ("paths", "resume", "device", "trainer", "logger", "artifacts_dir", "cache_dir", "preparation")


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


def settings_key(cfg: DictConfig) -> str:
    """Hash of all settings that may alter a run's results, so that two runs can be told to be the same."""
    settings = OmegaConf.to_container(cfg)  # references as they are written; what they refer to is in it too
    return hash_of({name: value for name, value in settings.items() if name not in _ALTERS_NO_RESULT})


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
        if isinstance(cause, OSError) and cause.filename is not None:
            file = os.fsdecode(cause.filename) if isinstance(cause.filename, str | bytes) else cause.filename
            raise ExperimentError(
                f"{error_place(node)}: {file}: {cause.strerror}; get permission for it, or name another file"
            ) from error
        if isinstance(cause, TypeError | ValueError | OverflowError | OSError):
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


@dataclass(frozen=True)
class Configured:
    """An option as an artifact's field: what is to be made, by its name and its arguments.

    Attributes:
        settings: resolved, with ``_target_``.
        budgets: arguments that alter no number.
    """

    settings: Mapping[str, Any]
    budgets: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, node: DictConfig, *, budgets: Collection[str] = ()) -> "Configured":
        """A node of the configuration; ``budgets`` names arguments that alter no number."""
        settings = plain(node)
        return cls(settings, {name: settings.pop(name) for name in budgets if name in settings})

    @property
    def identity(self) -> Any:
        """The settings, and the source of code that comes from elsewhere."""
        return _with_sources(self.settings)

    def make(self, *args: Any, **kwargs: Any) -> Any:
        """What the option makes; see `instantiate`."""
        return instantiate(OmegaConf.create({**self.settings, **self.budgets}), *args, **kwargs)


def _with_sources(settings: Any) -> Any:
    if isinstance(settings, list):
        return [_with_sources(one) for one in settings]
    if not isinstance(settings, dict):
        return settings
    found = {name: _with_sources(value) for name, value in settings.items()}
    if "_target_" in found:
        found["_target_"] = identity_of(hydra.utils.get_object(settings["_target_"]))
    return found


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
    for one in fields(kind):
        if one.type is float:
            values[one.name] = float(values[one.name])
        elif one.type == tuple[float, float]:
            values[one.name] = tuple(map(float, values[one.name]))
        elif one.type == tuple[str, ...]:
            values[one.name] = tuple(values[one.name])
    return kind(**values)


def dropout_draws(cfg: DictConfig, *, n_processes: int) -> tuple[int, int] | None:
    """Size of micro-batches and number of processes, if dropout draws its numbers by them; else ``None``."""
    return (cfg.micro_batch_size, n_processes) if cfg.lora.dropout else None
