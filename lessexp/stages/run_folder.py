"""The folder of a run: a new one for every run, and one process at a time in it."""

import contextlib
import errno
import hashlib
import itertools
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from lessexp.locks import taking_turns
from lessexp.stages.storage import RUN_FOLDER, StorageError

_ERROR = ".error.txt"
_LOCK = ".lock"
_LONGEST_NAME = 200  # bytes; file systems take 255


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
        raise StorageError(_refusal(first, error)) from error


def job_folder(swept: str) -> str:
    """The name of a job's folder within its sweep.

    Args:
        swept: what the job sets, e.g. ``selector=less,seed=0``. Slashes, as in paths, become underscores; a long
            name is cut and ends in a hash of the whole.
    """
    name = swept.replace("/", "_").replace("\0", "_") or "run"
    encoded = name.encode()
    if len(encoded) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:12]
    return f"{encoded[: _LONGEST_NAME - 13].decode(errors='ignore')}-{digest}"


def error_file(job: Path) -> Path:
    """The file, beside a job's folder, that holds the sentence by which the job failed."""
    return job.with_name(job.name + _ERROR)


def failed_jobs(sweep: Path) -> dict[str, str]:
    """The jobs of a sweep that failed: why, by the folder's name."""
    files = sorted(sweep.rglob(f"*{_ERROR}"))
    return {
        str(file.relative_to(sweep)).removesuffix(_ERROR): file.read_text(encoding="utf-8").strip() for file in files
    }


class FolderCheck(Callback):
    """Ends the program in one sentence where Hydra could not make the folder of a run or a sweep."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Make the folder of the run."""
        _make(config, "run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Make the folder of the sweep."""
        _make(config, "sweep.dir")


def _make(config: DictConfig, key: str) -> None:
    try:
        folder = Path(OmegaConf.select(config.hydra, key, throw_on_resolution_failure=True))
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        sys.exit(f"Error: {_refusal(folder, error)}")
    except InterpolationResolutionError as error:
        behind: BaseException | None = error  # OmegaConf keeps as context what a resolver raised
        while behind is not None and not isinstance(behind, StorageError):
            behind = behind.__context__
        if behind is None:
            raise
        sys.exit(f"Error: {behind}")


def _refusal(folder: Path, error: OSError) -> str:
    return f"{folder.absolute()}: {os.strerror(error.errno)}; set {RUN_FOLDER} to a folder that you may write to"


# ${claimed:outputs/${now:%H-%M-%S}} and ${job_folder:...} in conf/. They are registered here and not in run.py, which
# a launcher's job does not import.
OmegaConf.register_new_resolver("claimed", claimed, use_cache=True, replace=True)
OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)


def held(folder: Path, announce: Callable[[str], None]) -> AbstractContextManager[None]:
    """Keep other processes that were given the same folder waiting until this one has left it.

    Args:
        folder: of the run.
        announce: gets one sentence if another process is there.
    """
    return taking_turns(folder / _LOCK, lambda: announce(f"waiting for another process that works in {folder}"))
