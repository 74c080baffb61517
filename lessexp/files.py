"""Files that appear whole or not at all, and hashes of what they hold."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lessexp.errors import DamagedFileError, MissingFileError


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record beside its place, then rename it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        MissingFileError: there is no such file.
        DamagedFileError: it holds something else, or too deep or long a thing to be read.
    """
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path}: not valid JSON ({error}); copy it again or have it built again") from error
    if not isinstance(record, dict):
        raise DamagedFileError(f"{path}: must hold a JSON object, it holds a {type(record).__name__}")
    return record


def sha256_of(path: Path) -> str:
    """Hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_all(paths: Iterable[Path]) -> str:
    """One hash for the content of several files in their order."""
    return hashlib.sha256(b"".join(bytes.fromhex(sha256_of(path)) for path in paths)).hexdigest()
