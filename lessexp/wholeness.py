"""Whether an artifact still holds what was written: hashes of its files, taken when it is complete.

They are compared whenever a finished artifact is reused, copied from or given by path, before anything is computed from
it; the pieces of a half-built one (`lessexp.pieces`) are compared before a run resumes from them.
``python -m lessexp.wholeness verify FOLDER`` compares either on request. ``repair FOLDER`` deletes what is
damaged and the ``COMPLETE`` that vouches for it, so that the next run builds that much anew and no more.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from lessexp.errors import UserError
from lessexp.files import changed_files, hashes_of, is_within, remove, remove_whole, user_path
from lessexp.locks import LockedError, held_now
from lessexp.pieces import damaged_pieces

COMPLETE = "COMPLETE"
_EPOCH = "epoch="
_NAMED = 10  # files in a message


class DamageError(UserError, RuntimeError):
    """Files of a finished artifact that are missing or hold something else than was written; they are named."""


def hashes_in(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a finished artifact, by its path within the folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and path != folder / COMPLETE)
    return hashes_of(files, within=folder)


def read_complete(folder: Path) -> dict[str, Any]:
    """What was recorded when the artifact was complete.

    Raises:
        DamageError: the record cannot be read.
    """
    try:
        record = json.loads((folder / COMPLETE).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise _damage(folder, [COMPLETE]) from error
    if not (isinstance(record, dict) and {"seconds", "record", "sha256"} <= record.keys()):
        raise _damage(folder, [COMPLETE])
    if type(record["seconds"]) not in (int, float) or not isinstance(record["record"], dict):
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
    return changed_files(folder, read_complete(folder)["sha256"])


def check_whole(folder: Path) -> None:
    """Compare a finished artifact with what was written; a folder without ``COMPLETE`` passes.

    Raises:
        DamageError: naming the files that differ.
    """
    if (folder / COMPLETE).exists() and (damaged := damaged_files(folder)):
        raise _damage(folder, damaged)


def check_pieces(folder: Path) -> None:
    """Compare the shards or epochs of a half-built artifact with what was written.

    Raises:
        DamageError: naming those that differ.
    """
    if damaged := damaged_pieces(folder):
        raise _damage(folder, damaged)


def _damage(folder: Path, names: Sequence[str]) -> DamageError:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return DamageError(
        f"{folder}: damaged or missing: {', '.join(names[:_NAMED])}{more}; "
        f"'python -m lessexp.wholeness repair {folder}' deletes that much, and the next run builds it anew"
    )


def repair(folder: Path) -> list[str]:
    """Delete what is damaged, and ``COMPLETE`` last; returns the paths deleted, within the folder.

    Of a warm-up, the damaged epoch and all later ones go, for training goes on after the last epoch that is there.
    A link is deleted, never what it leads to.

    Raises:
        DamageError: a run is using the artifact.
    """
    try:
        with held_now(Path(f"{folder}.lock")):
            return _repaired(folder)
    except LockedError as error:
        raise DamageError(f"{folder}: a run is using it; repair it after that") from error


def _repaired(folder: Path) -> list[str]:
    is_finished = os.path.lexists(folder / COMPLETE)
    try:
        damaged = damaged_files(folder) if is_finished else damaged_pieces(folder)
    except DamageError:
        damaged = [COMPLETE]
    first_epoch = min((epoch for name in damaged if (epoch := _epoch_of(name)) is not None), default=None)
    doomed = {_within_links(folder, name) for name in damaged if _epoch_of(name) is None and name != COMPLETE}
    if first_epoch is not None:
        there = {path.name: _epoch_of(path.name) for path in folder.iterdir()}
        doomed |= {name for name, epoch in there.items() if epoch is not None and epoch >= first_epoch}
    for name in doomed:
        if (folder / name).is_dir():
            remove_whole(folder / name)
        else:
            remove(folder / name)
    if damaged and is_finished:
        remove(folder / COMPLETE)
    return sorted(doomed) + ([COMPLETE] if damaged and is_finished else [])


def _within_links(folder: Path, name: str) -> str:
    """The path, or the first link on the way to it: what lies behind a link may belong to somebody else."""
    path = PurePosixPath(name)
    return str(next((step for step in reversed(path.parents) if (folder / step).is_symlink() and step.parts), path))


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
    if not folder.is_dir():
        return f"{folder}: no such folder"
    try:
        if options.command == "verify":
            check = check_whole if os.path.lexists(folder / COMPLETE) else check_pieces
            check(folder)
            print(f"{folder}: all files are as they were written")
        elif deleted := repair(folder):
            print(f"{folder}: deleted {', '.join(deleted)}; the next run builds what is missing")
        else:
            print(f"{folder}: all files are as they were written, nothing is deleted")
    except UserError as error:
        return str(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
