"""Processes that take turns at a place on disk."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout


@contextlib.contextmanager
def taking_turns(lock_file: Path, on_waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock; the operating system releases that of a process that dies.

    Args:
        lock_file: what all of them lock.
        on_waiting: called once if another process holds it.
    """
    lock = FileLock(lock_file)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        on_waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
