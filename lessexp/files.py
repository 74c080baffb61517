"""Files that appear whole or not at all, and hashes of what they hold."""

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError

from lessexp.errors import DamagedFileError, MissingFileError


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Let a file or a folder appear whole or not at all.

    Args:
        path: its place; what is there is replaced.

    Yields:
        Where to write it; at the end of the block it is renamed.

    Raises:
        OSError: it cannot be written, as on a full disk; ``filename`` is ``path``, and nothing of it is left.
    """
    partial = path.with_name(path.name + ".partial")
    remove(partial)  # of a process that was killed
    try:
        yield partial
        _settle(partial)
        if path.is_dir():
            remove_whole(path)
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        code = _error_number(error)
        if code is None or _names_another_file(error, partial):
            raise
        raise OSError(code, os.strerror(code), str(path)) from error
    finally:
        remove(partial)


def remove_whole(path: Path) -> None:
    """Let a folder disappear whole or not at all, so that a process killed meanwhile leaves no part under its name."""
    doomed = path.with_name(path.name + ".removed.partial")
    remove(doomed)  # of a process that was killed
    path.rename(doomed)
    remove(doomed)


def remove(path: Path) -> None:
    """Delete a file, a folder or a link, never what a link leads to; nothing happens if there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def user_path(path: str | os.PathLike) -> Path:
    """A path as a user gives it: ``~`` and ``~user`` at its start are home folders, ``~`` anywhere else is a letter."""
    place = os.path.expanduser(path)
    return Path(place).absolute() if place.startswith("~") else Path(place)


def is_within(name: str) -> bool:
    """Whether a relative path, as a record holds it, stays within the folder that it is relative to."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _settle(path: Path) -> None:
    """Have the disk hold what was written: without power, a name must not outlive its content."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())


def _error_number(error: Exception) -> int | None:
    """The operating system's number of an error; safetensors and Arrow give it in their text alone."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = re.search(r"(?:os error|errno) (\d+)", str(error))
    return int(found[1]) if found else None


def _names_another_file(error: Exception, path: Path) -> bool:
    named = getattr(error, "filename", None)
    return isinstance(named, str) and not Path(named).is_relative_to(path)


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record as strict JSON, NaN and infinities as ``null``; raises as `written_whole` does."""
    with written_whole(path) as partial:
        text = json.dumps(_finite(record), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        # Of what is no Unicode, as a file's name may be, backslashreplace makes what JSON writes for it.
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def _finite(value: Any) -> Any:
    """The value with None for every number that JSON has no sign for."""
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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


def hashes_of(files: Iterable[Path], *, within: Path) -> dict[str, str]:
    """Hash of each file's content by its path within a folder, in the order of the paths."""
    return {file.relative_to(within).as_posix(): sha256_of(file) for file in sorted(files)}


def changed_files(folder: Path, hashes: Mapping[str, str | None]) -> list[str]:
    """Paths within a folder of those files that are missing or have another content than ``hashes`` says."""
    return [
        name for name, sha256 in hashes.items() if not (folder / name).is_file() or sha256_of(folder / name) != sha256
    ]


def sha256_of_all(paths: Iterable[Path]) -> str:
    """One hash for the content of several files in their order."""
    return hashlib.sha256(b"".join(bytes.fromhex(sha256_of(path)) for path in paths)).hexdigest()
