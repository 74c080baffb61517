"""How to get a run again: its command and its configuration, from what was written into its folder."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lessexp.reports.results import written_in

_SECRET = r"(?:[\w-]*[_-])?(?:api_?key|key|token|secret|password|passwd|credentials?)"
_SECRET_KEY = re.compile(_SECRET, re.IGNORECASE)
# Within the value of an override, such as {api_key:abc,entity:x}.
_SECRET_ITEM = re.compile(rf"(?<![\w-])({_SECRET})(\s*[:=]\s*)[^,\]}}]+", re.IGNORECASE)
HIDDEN = "(hidden)"


@dataclass(frozen=True)
class Reproduction:
    """How a run was started.

    Attributes:
        command: for a shell, in the checkout.
        config: the composed configuration as YAML.
    """

    command: str
    config: str


def read_reproduction(run_folder: Path, results: Mapping[str, Any]) -> Reproduction | None:
    """Read what the command was; None where nothing tells, since the run was not started by ``run.py``.

    Values of keys that look like passwords and keys of accounts are hidden.
    """
    written = written_in(run_folder, results)
    if written is None:
        return None
    overrides, config = written
    by_hydra = run_folder / ".hydra" / "hydra.yaml"  # which a notebook's run has not
    chosen = _config_words(yaml.safe_load(by_hydra.read_text(encoding="utf-8"))["hydra"]) if by_hydra.is_file() else []
    words = ["python", "run.py", *chosen, *map(without_secret, overrides)]
    shown = yaml.safe_dump(without_secrets(config), sort_keys=False, allow_unicode=True, width=10_000)
    return Reproduction(shlex.join(words), shown)


def _config_words(hydra: dict[str, Any]) -> list[str]:
    """Which configuration was chosen, if not the usual one."""
    name = hydra["job"]["config_name"]
    given = [source["path"] for source in hydra["runtime"]["config_sources"] if source["provider"] == "command-line"]
    return [word for path in given for word in ("-cd", path)] + (["-cn", name] if name != "config" else [])


def without_secret(override: str) -> str:
    """An override whose value is hidden if its key looks like that of a secret."""
    key, equals, value = override.partition("=")
    if value and value != "null" and _SECRET_KEY.fullmatch(key.lstrip("+").rpartition(".")[2]):
        return f"{key}={HIDDEN}"
    return key + equals + _SECRET_ITEM.sub(rf"\1\2{HIDDEN}", value)


def without_secrets(config: Any) -> Any:
    """The configuration with values hidden wherever their key looks like that of a secret."""
    if isinstance(config, dict):
        return {
            key: HIDDEN if value and _SECRET_KEY.fullmatch(str(key)) else without_secrets(value)
            for key, value in config.items()
        }
    return [without_secrets(value) for value in config] if isinstance(config, list) else config
