"""Keys and tokens stay in the environment: settings are kept in run folders, trackers and reports."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lessexp.stages.configuration import ExperimentError

_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN", "WANDB_API_KEY")
_SHORTEST = 8  # characters; a shorter value may be part of any word
_LOOKS_LIKE_ONE = re.compile(r"\bhf_[A-Za-z0-9]{30,}|\bwandb_v\d_\w{16,}")
_ASKS_FOR_ONE = re.compile(r"oc\.env:\s*['\"]?(" + "|".join(_VARIABLES) + r")\b")


class CredentialError(ExperimentError):
    """A setting that holds a key or token; the message names the setting and never the value."""


def refuse_credentials(overrides: Sequence[str]) -> None:
    """Check the words of a command line, before any of them is written down.

    Raises:
        CredentialError: one of them holds a token, or asks for an environment variable that does.
    """
    for override in overrides:
        key, _, value = override.partition("=")
        if _holds_one(override) or _ASKS_FOR_ONE.search(override):
            raise CredentialError(_refusal(key if value and not _holds_one(key) else "the command line"))


def refuse_credentials_in(settings: Any, key: str = "") -> None:
    """Check settings whose interpolations are resolved.

    Args:
        settings: dictionaries, lists and values.
        key: where they stand, for the message.

    Raises:
        CredentialError: a text in them, or the name of a key, holds a token.
    """
    if isinstance(settings, Mapping):
        for name, value in settings.items():
            refuse_credentials_in(str(name), key)
            refuse_credentials_in(value, f"{key}.{name}".lstrip("."))
    elif isinstance(settings, list | tuple):
        for value in settings:
            refuse_credentials_in(value, key)
    elif isinstance(settings, str) and _holds_one(settings):
        raise CredentialError(_refusal(key))


def _holds_one(text: str) -> bool:
    secrets = (os.environ.get(name, "") for name in _VARIABLES)
    return bool(_LOOKS_LIKE_ONE.search(text)) or any(len(one) >= _SHORTEST and one in text for one in secrets)


def _refusal(key: str) -> str:
    return (
        f"{key or 'the configuration'} holds a key or token, and settings are written into the run folder; set the "
        "environment variable HF_TOKEN or WANDB_API_KEY, which is read without being named"
    )
