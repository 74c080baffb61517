"""Lists the artifacts of a folder, and deletes those that are no longer needed.

    python -m lessexp.prune artifacts                                      # lists all
    python -m lessexp.prune artifacts --half-built --older-than 30         # lists what both conditions hold for
    python -m lessexp.prune artifacts --unused-by outputs multirun --delete

Nothing is deleted without ``--delete``. An artifact that a run is building stays, and so does whatever a link leads to.
"""

import argparse
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lessexp.errors import UserError
from lessexp.files import read_json, remove_whole, user_path
from lessexp.locks import LockedError, held_now
from lessexp.reports.tables import with_unit
from lessexp.wholeness import COMPLETE

_KEY = re.compile(r"[0-9a-f]{8,64}(\.removed\.partial)?")  # the latter is left by a deletion that was killed
_DAY = 86400


class PruneError(UserError, ValueError):
    """A folder or a condition with which nothing can be pruned safely."""


@dataclass(frozen=True)
class Entry:
    """An artifact on disk.

    Attributes:
        folder: its place, ``kind/key``.
        n_bytes: of its files.
        is_finished: whether it is marked as complete.
        built: when the last of its files was written, in seconds since 1970.
        used: when one of its files was last read or written, as far as the file system notes reading.
    """

    folder: Path
    n_bytes: int
    is_finished: bool
    built: float
    used: float

    @property
    def key(self) -> str:
        """The name by which runs record it."""
        return self.folder.name.partition(".")[0]

    def line(self, now: float) -> str:
        """All that is listed of it."""
        state = "complete" if self.is_finished else "half-built"
        built, used = ((now - moment) / _DAY for moment in (self.built, self.used))
        name = f"{self.folder.parent.name}/{self.folder.name}"
        return f"{name:50} {with_unit(self.n_bytes, 'B'):>10}  {state:10}  built {built:.0f} d, used {used:.0f} d ago"


@dataclass(frozen=True)
class Conditions:
    """What is to be pruned; an artifact must meet all.

    Attributes:
        half_built: it is not complete.
        used_keys: it is none of these; ``None`` if that does not matter.
        days: since it was last used, at least.
        now: in seconds since 1970.
    """

    half_built: bool
    used_keys: frozenset[str] | None
    days: float
    now: float

    def hold_for(self, entry: Entry) -> bool:
        """Whether the artifact is to be pruned."""
        if self.half_built and entry.is_finished:
            return False
        if self.used_keys is not None and entry.key in self.used_keys:
            return False
        return self.now - entry.used >= self.days * _DAY


def entries_in(root: Path) -> list[Entry]:
    """The artifacts in a folder, by kind and key. Links are passed over, and so is all that no run has made."""
    found = []
    for kind in sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink()):
        found += [_entry(folder) for folder in sorted(kind.iterdir()) if _is_artifact(folder)]
    return found


def _is_artifact(folder: Path) -> bool:
    name = _KEY.fullmatch(folder.name)
    if name is None or folder.is_symlink() or not folder.is_dir():
        return False
    return bool(name[1]) or any((folder / one).is_file() for one in ("key.json", COMPLETE)) or not any(folder.iterdir())


def _entry(folder: Path) -> Entry:
    paths = [Path(place, name) for place, _, names in os.walk(folder) for name in names]
    states = [path.lstat() for path in paths] or [folder.lstat()]
    return Entry(
        folder=folder,
        n_bytes=sum(path.lstat().st_size for path in paths),
        is_finished=(folder / COMPLETE).is_file(),
        built=max(state.st_mtime for state in states),
        used=max(max(state.st_mtime, state.st_atime) for state in states),
    )


def used_keys(runs: Sequence[Path]) -> frozenset[str]:
    """The keys that the records of runs name, finished or stopped.

    Args:
        runs: run folders, or folders that hold some.

    Raises:
        PruneError: a folder holds no record of a run.
        DamagedFileError: a record cannot be read.
    """
    keys: set[str] = set()
    for folder in runs:
        records = [*folder.rglob("results.json"), *folder.rglob("stages/*.json")]
        if not records:
            raise PruneError(f"{folder}: holds no run (neither results.json nor stages/*.json); give a run's folder")
        for record in records:
            keys.update(_keys_in(read_json(record)))
    return frozenset(keys)


def _keys_in(record: object) -> Iterator[str]:
    """Every ``key`` below an ``artifacts`` of a record."""
    if isinstance(record, dict):
        for name, value in record.items():
            if name == "artifacts" and isinstance(value, dict):
                yield from (one["key"] for one in value.values() if isinstance(one, dict) and "key" in one)
            else:
                yield from _keys_in(value)


def prune(entry: Entry, conditions: Conditions) -> str | None:
    """Delete an artifact if the conditions still hold once it is locked; the reason if it stays."""
    try:
        # The lock's file stays: another run may wait for it.
        with held_now(Path(f"{entry.folder}.lock")):
            if not conditions.hold_for(_entry(entry.folder)):
                return "it was used meanwhile"
            remove_whole(entry.folder)
    except LockedError:
        return "a run is using it"
    except OSError as error:
        return str(error)
    return None


def main(arguments: Sequence[str] | None = None) -> str | int:
    """List, or delete with ``--delete``: 0 if nothing failed, else a sentence."""
    parser = argparse.ArgumentParser(prog="python -m lessexp.prune", description=__doc__.splitlines()[0])
    parser.add_argument("artifacts", type=user_path, help="the folder that artifacts_dir names")
    parser.add_argument("--half-built", action="store_true", help="those that no run has finished")
    parser.add_argument(
        "--unused-by", type=user_path, nargs="+", metavar="RUN", help="those that these runs do not use"
    )
    parser.add_argument("--older-than", type=float, metavar="DAYS", help="those that were not used for so many days")
    parser.add_argument("--delete", action="store_true", help="delete them; without, they are listed only")
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except (UserError, OSError) as error:
        return str(error)


def _run(options: argparse.Namespace) -> str | int:
    root: Path = options.artifacts
    if not root.is_dir():
        raise PruneError(f"{root}: no folder of this machine; give the one that artifacts_dir names")
    asked = options.half_built or options.unused_by or options.older_than is not None
    if options.delete and not asked:
        raise PruneError("--delete needs --half-built, --unused-by or --older-than, to say what is to be deleted")
    if options.older_than is not None and not options.older_than >= 0:
        raise PruneError(f"--older-than must be 0 or more days, got {options.older_than:g}")
    now = time.time()
    keys = used_keys(options.unused_by) if options.unused_by else None
    conditions = Conditions(options.half_built, keys, options.older_than or 0.0, now)
    chosen = [entry for entry in entries_in(root) if not asked or conditions.hold_for(entry)]
    freed, kept = 0, []
    for entry in chosen:
        print(entry.line(now))
        if not options.delete:
            continue
        if reason := prune(entry, conditions):
            kept.append(f"{entry.folder} stays: {reason}")
        else:
            freed += entry.n_bytes
    n_bytes = sum(entry.n_bytes for entry in chosen)
    if options.delete:
        print(f"deleted {len(chosen) - len(kept)} artifacts, {with_unit(freed, 'B')} freed")
        return "\n".join(kept) or 0
    would = ", which --delete would delete" if asked else ""
    print(f"{len(chosen)} artifacts, {with_unit(n_bytes, 'B')}{would}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
