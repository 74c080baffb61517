"""Results that runs share: each in a folder named by a hash of exactly what determines it.

    artifacts/warmup/3f2a…/key.json    what the hash stands for
                          /spent.json  seconds of attempts that failed
                          /COMPLETE    written last; holds what building cost and the hash of every file
    artifacts/warmup/3f2a….lock        held by the run that builds it

A folder without ``COMPLETE`` is half-built: the next run goes on with what is there.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lessexp.files import read_json, write_json
from lessexp.locks import taking_turns
from lessexp.processes import ALONE, Team
from lessexp.wholeness import COMPLETE, check_whole, hashes_in, read_complete

_SPENT = "spent.json"


@dataclass(frozen=True)
class Artifact:
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


def artifact_key(fields: Mapping[str, Any]) -> str:
    """Hash of everything that determines an artifact."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


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
) -> Artifact:
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
) -> list[Artifact]:
    """Build those artifacts that are not there in one go; each is charged with the whole time.

    Args:
        orders: different folders.
        build: fills the folders it is given, going on with what a stopped run left; returns a JSON record for each.
        announce: gets one sentence for each artifact that is reused or that another run is building.
        team: of processes that each call this and are all to be in ``build``.

    Raises:
        DamageError: an artifact that is there does not hold what was written.
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


def _reuse(order: Order, announce: Callable[[str], None]) -> Artifact:
    check_whole(order.folder)
    stored = read_complete(order.folder)
    announce(f"reusing {order.folder} (built in {stored['seconds']:.0f} s)")
    return Artifact(order.folder, order.folder.name, True, stored["seconds"], stored["record"])


def _timed(
    orders: Sequence[Order], build: Callable[[Sequence[Order]], Sequence[dict[str, Any]]], team: Team
) -> dict[Path, Artifact]:
    """Build, and add up the seconds of this attempt and of earlier ones that failed."""
    if team.is_leader:
        for order in orders:
            write_json(order.folder / "key.json", order.fields)
    started = time.perf_counter()

    def seconds(order: Order) -> float:
        spent = order.folder / _SPENT
        earlier = read_json(spent)["seconds"] if spent.exists() else 0.0
        return earlier + time.perf_counter() - started

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
        built = Artifact(order.folder, order.folder.name, False, seconds(order), record)
        if team.is_leader:
            complete = {"seconds": built.seconds, "processes": team.size, "record": record}
            complete["sha256"] = hashes_in(order.folder)
            write_json(order.folder / COMPLETE, complete)
        artifacts[order.folder] = built
    team.meet()
    return artifacts
