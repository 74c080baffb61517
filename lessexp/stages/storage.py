"""What to do where a file cannot be written: no room, no permission, a read-only disk, a file in place of a folder."""

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from omegaconf import DictConfig

from lessexp.errors import UserError
from lessexp.files import user_path
from lessexp.stages.shelf import shelf_of

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LEAVE = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_FOLDER = {errno.ENOTDIR, errno.EEXIST}
RUN_FOLDER = "hydra.run.dir (hydra.sweep.dir in a sweep)"


class StorageError(UserError, OSError):
    """A file that cannot be written, or read, for want of room, permission or a folder."""


def _absolute(path: str | Path) -> Path:
    return user_path(path).absolute()


def _key_of(path: Path, places: Mapping[str, Path]) -> str | None:
    """The key that says where the file lies: that of the innermost folder that holds it."""
    holding = {key: place for key, place in places.items() if path.is_relative_to(place)}
    return max(holding, key=lambda key: len(holding[key].parts), default=None)


def _advice(code: int, key: str | None, places: Mapping[str, Path]) -> str:
    if code in _NO_ROOM:
        elsewhere = f"set {key} to a folder with more" if key else f"set {', '.join(places)} to folders with more"
        return f"make room or {elsewhere}, and run again: the run goes on after the last whole epoch and shard"
    if code in _NO_FOLDER:
        return f"a file stands where a folder belongs; set {key} to a folder, and run again"
    if key is None:
        return "get permission for it, and run again"
    return f"get permission to write to {places[key]}, or set {key} to a folder that you may write to, and run again"


@contextlib.contextmanager
def refusals_explained(cfg: DictConfig, run_folder: Path) -> Iterator[None]:
    """Turn a refusal of the file system into one sentence that names the file, the folder and the key.

    Args:
        cfg: a run's configuration.
        run_folder: gets the run's files.

    Raises:
        StorageError: in place of an `OSError` of that kind; all others pass.
    """
    places = {
        "artifacts_dir": shelf_of(cfg).root,
        "cache_dir": _absolute(cfg.cache_dir),
        RUN_FOLDER: _absolute(run_folder),
    }
    try:
        yield
    except OSError as error:
        path = _absolute(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None
        key = _key_of(path, places) if path else None
        of_this_kind = _NO_ROOM | _NO_LEAVE | (_NO_FOLDER if key else set())
        if isinstance(error, UserError) or error.errno not in of_this_kind:
            raise
        what = path or "a file of the run"
        raise StorageError(f"{what}: {os.strerror(error.errno)}; {_advice(error.errno, key, places)}") from error
