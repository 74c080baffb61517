"""Artifacts kept in an object store too (``s3://``, ``gs://``, whatever ``fsspec`` opens).

An artifact is built and read in a local folder. Before that what the store holds of it is fetched; while it is built
whole files are sent every few seconds, so that a machine that is lost loses little; another goes on from there.

    <url>/warmup/3f2a…/epoch=1/adapter_model.safetensors
                      /FILES.json   the files that are whole there, with their sizes; written after them
"""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import fsspec

from lessexp.errors import UserError
from lessexp.files import is_within, remove
from lessexp.locks import taking_turns
from lessexp.pieces import damaged_pieces
from lessexp.wholeness import COMPLETE, DamageError, check_whole, damaged_files

_LIST = "FILES.json"
_UNFINISHED = ".partial"


class MirrorError(UserError, OSError):
    """An object store that refuses something; the message names the address."""


def local_place(place: str) -> str | None:
    """The folder of this machine that an address stands for; ``None`` if it is another's.

    Args:
        place: a path, or an address; ``file:`` and ``local:`` stand for a path, in which ``%20`` is a space.

    Raises:
        MirrorError: the address of a file that leads to no folder of this machine.
    """
    scheme, host, path, *_ = urlsplit(place)
    if scheme not in ("file", "local"):
        return None if "://" in place else place
    if host not in ("", "localhost") or not path.startswith("/"):
        raise MirrorError(
            f"artifacts_dir={place}: give the whole path, as in file:///home/me/artifacts, or the path alone"
        )
    return unquote(path)


@dataclass(frozen=True)
class Mirror:
    """The place of all artifacts in an object store.

    Attributes:
        url: holds a folder for each kind.
        local: the folder on this machine that stands for it.
        seconds: between two looks for files to send.
    """

    url: str
    local: Path
    seconds: float = 30.0

    def _address(self, folder: Path, name: str) -> str:
        return "/".join([self.url.rstrip("/"), *folder.relative_to(self.local).parts, name])

    @contextlib.contextmanager
    def _store(self, address: str) -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
        """The file system behind an address and the path there; what it refuses is told in one sentence."""
        try:
            yield fsspec.core.url_to_fs(address)
        except ImportError as error:
            raise MirrorError(
                f"artifacts_dir={self.url}: {error}; pip install 'lessexp[s3]' or 'lessexp[gcs]'"
            ) from error
        except Exception as error:  # of each store's own library
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise MirrorError(
                f"{address}: refused ({reason:.200}); check the credentials in the environment, or set artifacts_dir"
            ) from error

    def _files_there(self, folder: Path) -> dict[str, int]:
        """Sizes of the files that are whole there, by path within the artifact.

        Raises:
            MirrorError: the list holds something else, or names a file outside the artifact.
        """
        address = self._address(folder, _LIST)
        with self._store(address) as (store, path):
            try:
                content = store.cat_file(path)
            except FileNotFoundError:
                return {}
        try:
            there = json.loads(content)
            paths = {PurePosixPath(name) for name in there}
            folders = {above for path in paths for above in path.parents}
            sound = all(isinstance(size, int) and is_within(name) for name, size in there.items())
            if sound and len(paths) == len(there) and not paths & folders:  # no name is a file's and a folder's
                return there
        except (ValueError, TypeError, AttributeError, RecursionError):
            pass
        raise MirrorError(f"{address}: damaged; delete it, and the artifact is sent again")

    def _list(self, folder: Path, sizes: Mapping[str, int]) -> None:
        with self._store(self._address(folder, _LIST)) as (store, path):
            store.pipe_file(path, json.dumps(sizes).encode())

    def _put(self, folder: Path, name: str) -> None:
        with self._store(self._address(folder, name)) as (store, path):
            store.put_file(str(folder / name), path)

    def _remove(self, folder: Path, name: str) -> None:
        with self._store(self._address(folder, name)) as (store, path), contextlib.suppress(FileNotFoundError):
            store.rm_file(path)

    def holds(self, folder: Path) -> bool:
        """Whether the finished artifact is there."""
        return COMPLETE in self._files_there(folder)

    def fetch(self, folder: Path, announce: Callable[[str], None]) -> None:
        """Bring what is there and not here; a finished artifact that is here is left alone.

        Args:
            folder: of the artifact, on this machine.
            announce: gets one sentence if there is something to fetch.

        Raises:
            MirrorError: it cannot be read.
        """
        if (folder / COMPLETE).exists():
            return
        there = self._files_there(folder)
        missing = [name for name, size in there.items() if not _has_size(folder / name, size)]
        if not missing:
            return
        announce(f"fetching {len(missing)} files of {self._address(folder, '')}")
        for name in missing:
            if name != COMPLETE:
                self._get(folder, name)
        if COMPLETE in missing:
            self._get_complete(folder)
            return
        for piece in damaged_pieces(folder):
            if any(PurePosixPath(name).is_relative_to(piece) for name in missing):
                announce(f"{self._address(folder, piece)}: damaged there, so it is built anew")
                remove(folder / piece)

    def _get(self, folder: Path, name: str) -> Path:
        target = folder / name
        partial = target.with_name(target.name + _UNFINISHED)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with self._store(self._address(folder, name)) as (store, path):
                store.get_file(path, str(partial))
            return partial.replace(target)
        except MirrorError:
            raise
        except OSError as error:  # a folder in a file's place, say
            raise MirrorError(f"{target}: cannot be written ({error.strerror}); delete {folder} to fetch it") from error

    def _get_complete(self, folder: Path) -> None:
        """Fetch what vouches for the other files, and again those that have the size it says but another content.

        Raises:
            MirrorError: a file is damaged there.
        """
        complete = self._get(folder, COMPLETE)
        try:
            for name in damaged_files(folder):
                self._get(folder, name)
            check_whole(folder)
        except DamageError as error:
            complete.unlink()  # what is here is no finished artifact
            raise MirrorError(
                f"{self._address(folder, '')}: damaged there; delete it, and the artifact is built and sent again"
            ) from error

    @contextlib.contextmanager
    def kept(self, folders: Sequence[Path], announce: Callable[[str], None]) -> Iterator[None]:
        """Fetch artifacts, and send what becomes of them within the block, at its end all that is whole.

        Raises:
            MirrorError: the store refuses; before anything is computed, if it refuses from the start.
        """
        for folder in folders:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with taking_turns(
                Path(f"{folder}.fetch.lock"), lambda: announce("waiting for another run that fetches it")
            ):
                self.fetch(folder, announce)
        senders = [_Sender(self, folder) for folder in folders if not self.holds(folder)]
        for sender in senders:
            sender.send()
        done = threading.Event()

        def send_now_and_then() -> None:
            while not done.wait(self.seconds):
                with contextlib.suppress(MirrorError):  # the end of the block tries again, and raises
                    for sender in senders:
                        sender.send()

        thread = threading.Thread(target=send_now_and_then, daemon=True)
        if senders:
            thread.start()
        try:
            yield
        except BaseException:
            with contextlib.suppress(MirrorError):  # what stopped the block is what is to be told
                self._send_last(senders, done, thread)
            raise
        self._send_last(senders, done, thread)

    @staticmethod
    def _send_last(senders: "Sequence[_Sender]", done: threading.Event, thread: threading.Thread) -> None:
        done.set()
        if senders:
            thread.join()
        for sender in senders:
            sender.send()


class _Sender:
    """Sends those files of one artifact that are new or changed, and drops those that are gone."""

    def __init__(self, mirror: Mirror, folder: Path):
        self.mirror, self.folder = mirror, folder
        self._listed = mirror._files_there(folder)
        self._seen = {name: state for name, state in self._whole_files() if self._listed.get(name) == state[0]}

    def _whole_files(self) -> list[tuple[str, tuple[int, int]]]:
        """Path, size and time of each file that is no longer being written; ``COMPLETE`` last."""
        found = []
        for path in sorted(self.folder.rglob("*"), key=lambda path: path.name == COMPLETE):
            parts = path.relative_to(self.folder).parts
            if any(part.endswith(_UNFINISHED) for part in parts) or path.is_dir():
                continue
            with contextlib.suppress(FileNotFoundError):  # an epoch that is removed
                state = path.stat()
                found.append(("/".join(parts), (state.st_size, state.st_mtime_ns)))
        return found

    def send(self) -> None:
        """Send, then list what is there."""
        there: dict[str, int] = {}
        for name, state in self._whole_files():
            if self._seen.get(name) != state:
                try:
                    self.mirror._put(self.folder, name)
                except MirrorError:
                    if (self.folder / name).exists():
                        raise
                    continue  # it was removed meanwhile
                self._seen[name] = state
            there[name] = state[0]
        gone = self._listed.keys() - there.keys()
        if there != self._listed or not there:
            self.mirror._list(self.folder, there)
            self._listed = there
        for name in gone:
            self.mirror._remove(self.folder, name)


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size
