"""What a run says on the terminal while it works."""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator

import transformers
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console(soft_wrap=True, emoji=False)


def say(message: str) -> None:
    """One line of plain text; brackets in it are not markup."""
    console.print(message, markup=False, highlight=False)


def quieten_libraries() -> None:
    """Keep what users can do nothing about off the terminal: tips, device lists, deprecations between libraries."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for library in ("transformers", "peft", "pytorch_lightning", "torch"):
        warnings.filterwarnings("ignore", category=FutureWarning, module=rf"{library}\.")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=rf"{library}\.")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")
    warnings.filterwarnings("ignore", message=".*Glyph .* missing from font.*")  # names of data sets, in figures


@contextlib.contextmanager
def progress_bar(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar, with time left where the total is known; yields a function that is told how many more are done."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(description, total=total)
        yield lambda done: progress.advance(task, done)
