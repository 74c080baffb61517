"""Results that runs share: each in a folder named by a hash of exactly what determines it.

    artifacts/warmup/3f2a…/key.json    what the hash stands for
                          /spent.json  seconds of attempts that failed
                          /COMPLETE    written last; holds what building cost
    artifacts/warmup/3f2a….lock        held by the run that builds it

A folder without ``COMPLETE`` is half-built: the next run goes on with what is there.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lessexp.files import write_json

_COMPLETE = "COMPLETE"
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
    complete = folder / _COMPLETE
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{folder}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        announce(f"waiting for another run that is building {folder}")
        lock.acquire()
    try:
        if complete.exists():
            stored = json.loads(complete.read_text())
            announce(f"reusing {folder} (built in {stored['seconds']:.0f} s)")
            return Artifact(folder, folder.name, True, stored["seconds"], stored["record"])
        write_json(folder / "key.json", fields)
        record, seconds = _timed(folder, build)
        write_json(complete, {"seconds": seconds, "record": record})
        return Artifact(folder, folder.name, False, seconds, record)
    finally:
        lock.release()


def _timed(folder: Path, build: Callable[[Path], dict[str, Any]]) -> tuple[dict[str, Any], float]:
    """Build, and add up the seconds of this attempt and of earlier ones that failed."""
    spent = folder / _SPENT
    earlier = json.loads(spent.read_text())["seconds"] if spent.exists() else 0.0
    started = time.perf_counter()
    try:
        record = build(folder)
    except BaseException:
        write_json(spent, {"seconds": earlier + time.perf_counter() - started})
        raise
    return record, earlier + time.perf_counter() - started
