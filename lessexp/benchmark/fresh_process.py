"""Tasks in a process of their own, where nothing that ran before takes memory."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

_SAMPLE_SECONDS = 0.1


def in_fresh_process(
    task: Callable[..., Any], *arguments: Any, watch: Callable[[int], None] = lambda process_id: None
) -> Any:
    """What a task returns.

    Args:
        task: a function of a module.
        arguments: of the task.
        watch: called with the process's number every tenth of a second.

    Raises:
        ChildProcessError: the task failed; why is on the terminal.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_result, args=(task, arguments, sender))
    process.start()
    sender.close()
    try:
        while not receiver.poll(_SAMPLE_SECONDS):
            watch(process.pid)
        return receiver.recv()
    except EOFError:
        raise ChildProcessError("a process of the benchmark failed, see above") from None
    finally:
        process.join()


def _send_result(task: Callable[..., Any], arguments: tuple, sender: Connection) -> None:
    sender.send(task(*arguments))
