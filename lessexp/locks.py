"""Processes that take turns at a place on disk."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from filelock import FileLock, Timeout

from lessexp.errors import UserError


class LockedError(UserError, RuntimeError):
    """A lock that another process holds."""


class LockFileError(UserError, OSError):
    """Something at the place of a lock file that is none."""


@contextlib.contextmanager
def taking_turns(lock_file: Path, on_waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock; the operating system releases that of a process that dies.

    Args:
        lock_file: what all of them lock.
        on_waiting: called once if another process holds it.

    Raises:
        LockFileError: there is a folder or a link in the lock file's place.
    """
    if lock_file.is_symlink() or (lock_file.exists() and not lock_file.is_file()):
        raise LockFileError(f"{lock_file}: a lock must be a file, this is a folder or a link; delete it")
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


def held_now(lock_file: Path) -> AbstractContextManager[None]:
    """Hold a lock that nobody else holds; raises as `taking_turns` does.

    Raises:
        LockedError: another process holds it.
    """

    def refuse() -> None:
        raise LockedError(f"{lock_file}: another process holds it")

    return taking_turns(lock_file, refuse)
