"""Results that runs share: each in a folder named by a hash of exactly what determines it.

An artifact is a frozen dataclass. Its fields are all that its ``build`` may read besides a runtime, which alters no
number, and its key is their hash (`lessexp.identity`), so an input that is not in the key cannot be read.

    artifacts/warmup/3f2a…/key.json    what the hash stands for, and the versions of the libraries that build it
                          /spent.json  seconds of attempts that failed
                          /COMPLETE    written last; holds what building cost and the hash of every file
    artifacts/warmup/3f2a….lock        held by the run that builds it

A folder without ``COMPLETE`` is half-built: the next run resumes it, under the same library versions.
"""

import contextlib
import importlib.metadata
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from lessexp.errors import UserError
from lessexp.files import read_json, write_json
from lessexp.locks import taking_turns
from lessexp.processes import ALONE, Team
from lessexp.wholeness import COMPLETE, check_pieces, check_whole, hashes_in, read_complete

_SPENT, _KEY = "spent.json", "key.json"
_LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "numpy", "bitsandbytes")  # which numbers depend on


class LibraryVersionError(UserError, RuntimeError):
    """A half-built artifact that libraries of other versions began."""


@runtime_checkable
class Artifact(Protocol):
    """A frozen dataclass that tells what is to be built, and how.

    Attributes:
        kind: the folder that holds it and its like.
        version: of the algorithm; its author raises it when numbers change.
        by_all: whether all processes of a run build it together.
    """

    kind: ClassVar[str]
    version: ClassVar[int]
    by_all: ClassVar[bool]

    def build(self, folder: Path, runtime: Any) -> dict[str, Any]:
        """Fill ``folder``, going on with what a stopped run left; returns a JSON record."""


@dataclass(frozen=True)
class Built:
    """A finished artifact.

    Attributes:
        folder: where it lies.
        key: its name, the hash.
        reused: whether it was there before.
        seconds: what building it took, attempts that failed included.
        record: what its builder returned.
    """

    folder: Path
    key: str
    reused: bool
    seconds: float
    record: dict[str, Any]


@dataclass(frozen=True)
class Order:
    """An artifact that is wanted.

    Attributes:
        folder: its place; the last part is its key.
        fields: what determines it, kept beside it for readers.
    """

    folder: Path
    fields: Mapping[str, Any]


def build_once(
    folder: Path,
    fields: Mapping[str, Any],
    build: Callable[[Path], dict[str, Any]],
    *,
    announce: Callable[[str], None],
) -> Built:
    """Build an artifact, or take the one that is there.

    Args:
        folder: its place; the last part is its key.
        fields: what determines it, kept beside it for readers.
        build: fills the folder, going on with what a stopped run left; returns a JSON record.
        announce: gets one sentence if the artifact is reused or another run is building it.
    """
    [artifact] = build_together([Order(folder, fields)], lambda missing: [build(missing[0].folder)], announce=announce)
    return artifact


def build_together(
    orders: Sequence[Order],
    build: Callable[[Sequence[Order]], Sequence[dict[str, Any]]],
    *,
    announce: Callable[[str], None],
    team: Team = ALONE,
) -> list[Built]:
    """Build those artifacts that are not there in one go; each is charged with the whole time.

    Args:
        orders: different folders.
        build: fills the folders it is given, going on with what a stopped run left; returns a JSON record for each.
        announce: gets one sentence for each artifact that is reused or that another run is building.
        team: of processes that each call this and are all to be in ``build``.

    Raises:
        DamageError: an artifact that is there, finished or half-built, does not hold what was written.
    """
    if team.from_leader(all((order.folder / COMPLETE).exists() for order in orders)):
        return [_reuse(order, announce) for order in orders]  # needs no lock, so the folder may be read-only
    with contextlib.ExitStack() as locks:
        if team.is_leader:
            # Every run takes its locks in the same order, so no two wait for each other.
            for order in sorted(orders, key=lambda order: order.folder):
                order.folder.mkdir(parents=True, exist_ok=True)
                locks.enter_context(_lock(order.folder, announce))
        # The leader looks for all: whoever looks later could find what the leader has just finished.
        is_there = team.from_leader([(order.folder / COMPLETE).exists() for order in orders])
        reused = {order.folder: _reuse(order, announce) for order, there in zip(orders, is_there, strict=True) if there}
        missing = [order for order in orders if order.folder not in reused]
        built = _timed(missing, build, team) if missing else {}
        return [reused.get(order.folder) or built[order.folder] for order in orders]


def _lock(folder: Path, announce: Callable[[str], None]) -> AbstractContextManager[None]:
    return taking_turns(Path(f"{folder}.lock"), lambda: announce(f"waiting for another run that is building {folder}"))


def _reuse(order: Order, announce: Callable[[str], None]) -> Built:
    check_whole(order.folder)
    stored = read_complete(order.folder)
    other = _differences(stored.get("versions", {}))
    announce(f"reusing {order.folder} (built in {stored['seconds']:.0f} s{f' with {other}' if other else ''})")
    return Built(order.folder, order.folder.name, True, stored["seconds"], stored["record"])


@cache
def library_versions() -> dict[str, str]:
    """Versions of the installed libraries that numbers depend on."""
    found = {}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def identity_in(folder: Path) -> dict[str, Any]:
    """Read the identity that was written beside an artifact.

    Raises:
        DamagedFileError: the file cannot be read.
    """
    return read_json(folder / _KEY).get("identity", {})


def _differences(versions: Mapping[str, str]) -> str:
    """The libraries of other versions than those installed, in words."""
    installed = library_versions()
    return ", ".join(
        f"{name} {version} ({installed.get(name, 'none')} is installed)"
        for name, version in versions.items()
        if version != installed.get(name)
    )


def _require_same_libraries(folder: Path) -> None:
    """Refuse to go on with what other versions began: rows of two versions would stand side by side."""
    began = read_json(folder / _KEY).get("versions", {}) if (folder / _KEY).exists() else {}
    if other := _differences(began):
        raise LibraryVersionError(
            f"{folder} is half-built with {other}; delete the folder to begin again, or install that version"
        )


def _timed(
    orders: Sequence[Order], build: Callable[[Sequence[Order]], Sequence[dict[str, Any]]], team: Team
) -> dict[Path, Built]:
    """Build, and add up the seconds of this attempt and of earlier ones that failed."""
    if team.is_leader:
        for order in orders:
            _require_same_libraries(order.folder)
            check_pieces(order.folder)
            write_json(order.folder / _KEY, {"identity": order.fields, "versions": library_versions()})
    started = time.perf_counter()

    def seconds(order: Order) -> float:
        return _earlier_seconds(order.folder / _SPENT) + time.perf_counter() - started

    try:
        records = build(orders)
    except BaseException:
        if team.is_leader:
            with contextlib.suppress(OSError):  # on a full disk: what failed is what is to be told
                for order in orders:
                    write_json(order.folder / _SPENT, {"seconds": seconds(order)})
        raise
    team.meet()  # what is hashed is what all have written
    artifacts = {}
    for order, record in zip(orders, records, strict=True):
        built = Built(order.folder, order.folder.name, False, seconds(order), record)
        if team.is_leader:
            complete = {"seconds": built.seconds, "processes": team.size, "record": record}
            complete["versions"] = library_versions()
            complete["sha256"] = hashes_in(order.folder)
            write_json(order.folder / COMPLETE, complete)
        artifacts[order.folder] = built
    team.meet()
    return artifacts


def _earlier_seconds(spent: Path) -> float:
    """Seconds of attempts that failed; a note that is missing or damaged says nothing of them."""
    with contextlib.suppress(UserError):
        seconds = read_json(spent).get("seconds")
        if type(seconds) in (int, float) and 0 <= seconds < math.inf:
            return float(seconds)
    return 0.0
