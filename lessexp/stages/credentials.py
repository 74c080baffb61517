"""Keys and tokens stay in the environment: settings are kept in run folders, trackers and reports.

A setting that looks like one is refused, and so is one that asks for a variable whose name says that it holds one.
Whatever else settings take from the environment is used, and written as the reference that it is.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, resolvers
from omegaconf.errors import OmegaConfBaseException

from lessexp.stages.configuration import ExperimentError

_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN", "WANDB_API_KEY")
_SHORTEST = 8  # characters; a shorter value may be part of any word
_SHORTEST_OF_OTHERS = 16  # of variables that this program does not know, whose value may be a word such as postgres
_LOOKS_LIKE_ONE = re.compile(
    r"""\bhf_[A-Za-z0-9]{30,}
    | \bwandb_v\d_\w{16,}
    | (?<![\w-])sk-[\w-]*[A-Za-z0-9]{20,}
    | \bgh[pousr]_[A-Za-z0-9]{20,}
    | \bgithub_pat_\w{20,}
    | \bglpat-[\w-]{20,}
    | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b
    | \bAIza[\w-]{35}
    | \bxox[abeprs]-[\w-]{10,}
    | \beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]+
    | -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY
    """,
    re.VERBOSE,
)
_PASSWORD_IN_URL = re.compile(r"://[^/?#\s@:]*:(?!\d+(?:[/?#]|$))[^\s@]+@")
_REFERENCE = re.compile(r"\$\{([^{}]*)\}")
_KEY_OF_ONE = re.compile(
    r"(?:.*[_-])?(?:api_?key|(?:access|secret|private)_key|secret|password|passwd|passphrase|(?:access|auth)_token)",
    re.IGNORECASE,
)
_NAMED_FOR_ONE = re.compile(
    r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|(?:API|ACCESS|PRIVATE|SECRET|ACCOUNT|SUBSCRIPTION)_?KEY)"
    r"(?:_ID|_VALUE|_\d+)?$|^SECRET_",
    re.IGNORECASE,
)
_VARIABLE = re.compile(r"oc\.env:\s*['\"]?(\w+)")


class CredentialError(ExperimentError):
    """A setting that holds a key or token; the message names the setting and never the value."""


def refuse_credentials(overrides: Sequence[str]) -> None:
    """Check the words of a command line, before any of them is written down.

    Raises:
        CredentialError: one of them holds a token, or asks for an environment variable that does.
    """
    for override in overrides:
        key, _, value = override.partition("=")
        named_for_one = _is_one_by_name(key.rpartition(".")[2].lstrip("+"), value)
        if _holds_one(override) or named_for_one:
            raise CredentialError(_refusal(key if value and not _holds_one(key) else "the command line"))


def refuse_credentials_in(settings: Any, key: str = "") -> None:
    """Check settings, whether their interpolations are resolved or not.

    Args:
        settings: dictionaries, lists and values.
        key: where they stand, for the message.

    Raises:
        CredentialError: a text in them, or the name of a key, holds a token.
    """
    if isinstance(settings, Mapping):
        for name, value in settings.items():
            refuse_credentials_in(str(name), key)
            below = f"{key}.{name}".lstrip(".")
            if isinstance(value, str) and _is_one_by_name(str(name), value):
                raise CredentialError(_refusal(below))
            refuse_credentials_in(value, below)
    elif isinstance(settings, list | tuple):
        for value in settings:
            refuse_credentials_in(value, key)
    elif isinstance(settings, str) and _holds_one(settings):
        raise CredentialError(_refusal(key))


def without_environment(cfg: DictConfig) -> dict[str, Any]:
    """Settings as they may leave the process: references are resolved, but for those that lead to the environment."""
    with _watched() as asked:
        return _resolved(cfg, asked)


def _resolved(node: DictConfig | ListConfig, asked: list[str]) -> Any:
    keys = range(len(node)) if isinstance(node, ListConfig) else list(node)
    values = []
    for key in keys:
        asked.clear()
        given = node._get_node(key)._value()
        try:
            value = node[key]
        except OmegaConfBaseException:  # a value that is not set, or refers to nothing
            value = given
        if asked:
            value = given
        elif OmegaConf.is_config(value):
            value = _resolved(value, asked)
        values.append(value)
    return values if isinstance(node, ListConfig) else dict(zip(keys, values, strict=True))


@contextlib.contextmanager
def _watched() -> Iterator[list[str]]:
    """Lets ``${oc.env:...}`` tell which variables it is asked for."""
    asked: list[str] = []

    def env(name: str, *default: str | None) -> str | None:
        asked.append(name)
        return resolvers.oc.env(name, *default)

    OmegaConf.register_new_resolver("oc.env", env, replace=True)
    try:
        yield asked
    finally:
        OmegaConf.register_new_resolver("oc.env", resolvers.oc.env, replace=True)


def _is_one_by_name(name: str, value: str) -> bool:
    return bool(_KEY_OF_ONE.fullmatch(name)) and value not in ("", "null", "true", "false")


def _holds_one(text: str) -> bool:
    parts = [_REFERENCE.sub("x", text), *_REFERENCE.findall(text)]
    return (
        bool(_LOOKS_LIKE_ONE.search(text))
        or any(_PASSWORD_IN_URL.search(part) for part in parts)
        or any(name in _VARIABLES or _NAMED_FOR_ONE.search(name) for name in _VARIABLE.findall(text))
        or any(secret in text for secret in _secrets_of_the_environment())
    )


def _secrets_of_the_environment() -> Iterator[str]:
    for name, value in os.environ.items():
        shortest = _SHORTEST if name in _VARIABLES else _SHORTEST_OF_OTHERS
        if len(value) >= shortest and (name in _VARIABLES or _NAMED_FOR_ONE.search(name)):
            yield value


def _refusal(key: str) -> str:
    return (
        f"{key or 'the configuration'} holds a key or token, and settings are written into the run folder; leave it in "
        "the environment, where HF_TOKEN or WANDB_API_KEY, and what an object store's client needs, are read without "
        "being named"
    )
