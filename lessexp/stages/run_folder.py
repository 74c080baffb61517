"""The folder of a run: a new one for every run, and one process at a time in it."""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from lessexp.stages.storage import RUN_FOLDER, StorageError

_LOCK = ".lock"


def claimed(folder: str | Path) -> str:
    """Make a folder that did not exist: the one named, or that name with -2, -3, … behind it.

    Runs named by the time of day would meet in one folder where two start in the same second, or the clock goes back.

    Raises:
        StorageError: no folder can be made there.
    """
    first = Path(folder)
    names = itertools.chain([first.name], (f"{first.name}-{number}" for number in itertools.count(2)))
    try:
        first.parent.mkdir(parents=True, exist_ok=True)
        for name in names:
            with contextlib.suppress(FileExistsError):
                first.with_name(name).mkdir()
                return str(first.with_name(name))
    except OSError as error:
        raise StorageError(
            f"{first.absolute()}: {os.strerror(error.errno)}; set {RUN_FOLDER} to a folder that you may write to"
        ) from error


def register_resolver() -> None:
    """Let configurations name a new folder: ``${claimed:outputs/${now:%H-%M-%S}}``."""
    OmegaConf.register_new_resolver("claimed", claimed, use_cache=True, replace=True)


@contextlib.contextmanager
def held(folder: Path, announce: Callable[[str], None]) -> Iterator[None]:
    """Keep other processes that were given the same folder waiting until this one has left it.

    Args:
        folder: of the run.
        announce: gets one sentence if another process is there.
    """
    if os.environ.get("RANK", "0") != "0":  # the processes of one job work in its folder together
        yield
        return
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        announce(f"waiting for another process that works in {folder}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
