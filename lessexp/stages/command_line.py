"""The command line of ``run.py``, checked before Hydra acts on it: a mistake is one sentence and makes no folder."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import OmegaConf

from lessexp.errors import ExperimentError
from lessexp.settings.validation import validate
from lessexp.stages.composition import added, composed, composing, options, parsed, quoted
from lessexp.stages.credentials import refuse_credentials, refuse_credentials_in

_HOME = re.compile(r"^([\w.@/+]+=)(~[^/,]*)(?=/|$)")


def checked_arguments(arguments: Sequence[str]) -> list[str]:
    """Check a command line, every job's settings of a sweep included.

    Args:
        arguments: those of the program, without its name.

    Returns:
        What Hydra is to be given: ``~`` is expanded, a setting that an option's file leaves out is added, and a sweep
        names its jobs' folders by what it varies alone.

    Raises:
        ExperimentError: the command cannot be run as it is; the sentence says what to write.
        CredentialError: it holds a key or token.
    """
    refuse_credentials(arguments)
    command_line = get_args_parser().parse_args(arguments)
    asks = ("help", "hydra_help", "cfg", "info", "shell_completion")
    if any(getattr(command_line, name) for name in asks):
        return list(arguments)
    expanded = {one: _HOME.sub(_expanded, one) for one in command_line.overrides}
    checked = [expanded.get(argument, argument) for argument in arguments]
    if command_line.config_path is not None:  # a configuration of the user's own
        return checked
    folder = command_line.config_dir and Path(command_line.config_dir).absolute()
    if folder and not folder.is_dir():
        raise ExperimentError(f"{folder} is no folder; --config-dir names the folder of a sweep's file")
    with composing(folder):
        command = _Command(command_line.config_name or "config", list(expanded.values()))
        is_sweep = command_line.multirun or command.is_sweep
        names_of_jobs = [command.check_sweep()] if is_sweep else []
        if not is_sweep:
            command.check_run()
        left_out = command.keys_left_out
    return [f"++{one}" if one.partition("=")[0] in left_out else one for one in checked] + names_of_jobs


def _expanded(match: re.Match) -> str:
    key, home = match.groups()
    return key + os.path.expanduser(home)


class _Command:
    """A command's configuration and overrides, inside a Hydra that composes them.

    Args:
        name: of the configuration file.
        overrides: of the command line.
    """

    def __init__(self, name: str, overrides: Sequence[str]):
        self._name = name
        self._given = {override.get_key_element(): override for override in map(parsed, overrides)}
        fixed = [one.input_line for one in self._given.values() if not one.is_sweep_override()]
        self._hydra = composed(self._name, fixed, with_hydra=True)

    @property
    def is_sweep(self) -> bool:
        """Whether the configuration itself asks for a sweep."""
        return self._hydra.hydra.mode == RunMode.MULTIRUN

    @property
    def keys_left_out(self) -> set[str]:
        """Settings of the command that its options' files leave out."""
        lines = [line for override in self._given.values() for line in [*_values(override)][:1]]
        return {
            line.partition("=")[0] for line, new in zip(lines, added(self._name, lines), strict=True) if new != line
        }

    def check_run(self) -> None:
        """Check the settings of a single run."""
        for key, override in self._given.items():
            if override.is_sweep_override():
                values = override.input_line.partition("=")[2]
                several = f"{key}={values} names several values; add -m for a run with each of them"
                if options(key):
                    raise ExperimentError(several)
                raise ExperimentError(
                    f"""{several}, or write '{key}=[{values}]' for a list, '{key}="{values}"' for a text"""
                )
        self._check([override.input_line for override in self._given.values()])

    def check_sweep(self) -> str:
        """Check the settings of a sweep's jobs: every value once, beside the first value of every other key.

        Returns:
            The override that keeps all but what is swept out of the names of the jobs' folders.
        """
        params = OmegaConf.to_container(self._hydra.hydra.sweeper, resolve=True).get("params") or {}
        swept = {key: parsed(f"{key}={values}") for key, values in params.items()}
        known = {key: list(_values(override)) for key, override in (swept | self._given).items()}
        first = {key: values[0] for key, values in known.items() if values}
        self._check(list(first.values()))
        for key, values in known.items():
            for value in values[1:]:
                self._check(list((first | {key: value}).values()))
        names = [
            one.key_or_group for key, one in self._given.items() if key not in swept and not one.is_sweep_override()
        ]
        return f"hydra.job.config.override_dirname.exclude_keys=[{','.join(map(quoted, names))}]"

    def _check(self, overrides: Sequence[str]) -> None:
        cfg = composed(self._name, overrides)
        refuse_credentials_in(OmegaConf.to_container(cfg))  # an error of the schema would show the value
        validate(cfg)


def _values(override: Override) -> Iterator[str]:
    """The overrides that a sweep makes of one; none of an interval, whose values another sweeper draws."""
    if override.is_discrete_sweep():
        key = override.get_key_element()
        yield from (f"{key}={value}" for value in override.sweep_string_iterator())
    elif not override.is_sweep_override():
        yield override.input_line
