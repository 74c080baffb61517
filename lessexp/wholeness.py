"""Whether an artifact still holds what was written: hashes of its files, taken when it is complete.

They are compared whenever a finished artifact is reused, copied from or given by path, before anything is computed from
it. ``python -m lessexp.wholeness verify FOLDER`` compares them on request. ``repair FOLDER`` deletes what is
damaged and the ``COMPLETE`` that vouches for it, so that the next run builds that much anew and no more.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lessexp.errors import UserError
from lessexp.files import is_within, remove_whole, sha256_of, user_path

COMPLETE = "COMPLETE"
_EPOCH = "epoch="


class DamageError(UserError, RuntimeError):
    """Files of a finished artifact that are missing or hold something else than was written; they are named."""


def hashes_in(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a finished artifact, by its path within the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / COMPLETE)
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}


def read_complete(folder: Path) -> dict[str, Any]:
    """What was recorded when the artifact was complete.

    Raises:
        DamageError: the record cannot be read.
    """
    try:
        record = json.loads((folder / COMPLETE).read_bytes())
    except ValueError as error:
        raise _damage(folder, [COMPLETE]) from error
    if not (isinstance(record, dict) and {"seconds", "record", "sha256"} <= record.keys()):
        raise _damage(folder, [COMPLETE])
    hashes = record["sha256"]
    if not (isinstance(hashes, dict) and all(is_within(name) for name in hashes)):  # repair deletes what it names
        raise _damage(folder, [COMPLETE])
    return record


def damaged_files(folder: Path) -> list[str]:
    """Paths within a finished artifact of files that are missing or not as they were written.

    Raises:
        DamageError: the record of what was written is itself damaged.
    """
    written: dict[str, str] = read_complete(folder)["sha256"]
    return [
        name for name, sha256 in written.items() if not (folder / name).is_file() or sha256_of(folder / name) != sha256
    ]


def check_whole(folder: Path) -> None:
    """Compare a finished artifact with what was written; a folder without ``COMPLETE`` passes.

    Raises:
        DamageError: naming the files that differ.
    """
    if (folder / COMPLETE).exists() and (damaged := damaged_files(folder)):
        raise _damage(folder, damaged)


def _damage(folder: Path, names: Sequence[str]) -> DamageError:
    return DamageError(
        f"{folder}: damaged or missing: {', '.join(names)}; "
        f"'python -m lessexp.wholeness repair {folder}' deletes that much, and the next run builds it anew"
    )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        with FileLock(f"{folder}.lock", timeout=0):
            yield
    except Timeout as error:
        raise DamageError(f"{folder}: a run is using it; repair it after that") from error


def repair(folder: Path) -> list[str]:
    """Delete what is damaged, and ``COMPLETE`` last; returns the paths deleted, within the folder.

    Of a warm-up, the damaged epoch and all later ones go, for training goes on after the last epoch that is there.

    Raises:
        DamageError: a run is using the artifact.
    """
    with _locked(folder):
        try:
            damaged = damaged_files(folder)
        except DamageError:
            damaged = [COMPLETE]
        first_epoch = min((epoch for name in damaged if (epoch := _epoch_of(name)) is not None), default=None)
        doomed = [name for name in damaged if _epoch_of(name) is None and name != COMPLETE]
        if first_epoch is not None:
            there = {path.name: _epoch_of(path.name) for path in folder.iterdir()}
            doomed += [name for name, epoch in there.items() if epoch is not None and epoch >= first_epoch]
        for name in doomed:
            if (folder / name).is_dir():
                remove_whole(folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
        if damaged:
            (folder / COMPLETE).unlink()
    return sorted(doomed) + ([COMPLETE] if damaged else [])


def _epoch_of(name: str) -> int | None:
    """The epoch whose checkpoint a path within a warm-up belongs to."""
    first, _, _ = name.partition("/")
    number = first.removeprefix(_EPOCH)
    return int(number) if first.startswith(_EPOCH) and number.isdigit() else None


def main(arguments: Sequence[str] | None = None) -> str | int:
    """``verify`` or ``repair``: 0 if all is whole, or repaired; else a sentence that names what is damaged."""
    parser = argparse.ArgumentParser(prog="python -m lessexp.wholeness")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("verify", help="compare every file with its hash").add_argument("folder", type=user_path)
    commands.add_parser("repair", help="delete what is damaged").add_argument("folder", type=user_path)
    options = parser.parse_args(arguments)
    folder: Path = options.folder
    if not (folder / COMPLETE).exists():
        return f"{folder}: no finished artifact (there is no {COMPLETE})"
    try:
        if options.command == "verify":
            check_whole(folder)
            print(f"{folder}: all files are as they were written")
        elif deleted := repair(folder):
            print(f"{folder}: deleted {', '.join(deleted)}; the next run builds what is missing")
        else:
            print(f"{folder}: all files are as they were written, nothing is deleted")
    except DamageError as error:
        return str(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
