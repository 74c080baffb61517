"""What SIGINT (Ctrl-C), SIGTERM and SIGUSR1 (a scheduler's warning) do to a run.

While shards are computed the first signal lets the current one be finished and written, and then the run stops; the
second stops it at once. Everywhere else the first stops it at once: training leaves one checkpoint an epoch, so
there is no nearer place to wait for, and goes on after the last whole epoch. A signal that a launcher handles already,
as submitit does, is left to it.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_OF_NOBODY = (signal.SIG_DFL, signal.default_int_handler)
_Handler = Callable[[int, FrameType | None], None]


class Stopped(BaseException):
    """A run that a signal stops. No `Exception`: nothing that handles errors is to take it for one.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int):
        self.number = number
        name = signal.Signals(number).name
        super().__init__(f"{name}; the same command goes on after the last whole epoch and the last whole shard")

    @property
    def exit_code(self) -> int:
        """What a shell expects of a program that a signal stopped: 130 for SIGINT."""
        return 128 + self.number


@contextlib.contextmanager
def _handled_by(handler: _Handler) -> Iterator[None]:
    """Handle the signals, in the main thread of this process only; Python allows no other thread to."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a worker that was forked meanwhile and is told to end
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        handler(number, frame)

    handle.is_ours = True
    before = {number: signal.signal(number, handle) for number in _SIGNALS if _is_free(number)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _is_free(number: int) -> bool:
    current = signal.getsignal(number)
    return current in _OF_NOBODY or getattr(current, "is_ours", False)


def _stop(number: int, _frame: FrameType | None) -> None:
    raise Stopped(number)


@contextlib.contextmanager
def stopping_at_once() -> Iterator[None]:
    """Make any of the signals raise `Stopped` where the program is."""
    with _handled_by(_stop):
        yield


@contextlib.contextmanager
def finishing_pieces(piece: str) -> Iterator[Callable[[], None]]:
    """Make the first signal wait for a good moment and the second raise `Stopped` at once.

    Args:
        piece: what is finished first, one word for the user.

    Yields:
        A function to call at a good moment; it raises `Stopped` if a signal has come. So does the end of the block.
    """
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if asked:
            _stop(number, frame)
        asked.append(number)
        _tell(f"finishing this {piece}, then stopping; once more stops now")

    def stop_if_asked() -> None:
        if asked:
            raise Stopped(asked[0])

    with _handled_by(note):
        yield stop_if_asked
    stop_if_asked()


def _tell(sentence: str) -> None:
    """Say something from within a signal handler, which may have interrupted any other print."""
    with contextlib.suppress(OSError):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"\n{sentence}\n".encode())
