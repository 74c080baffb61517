"""Which files of rows a setting names, what they hold by their names, and what their rows are called after them."""

import errno
import glob
import os
import re
import stat
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lessexp.errors import MissingFileError

ROW_FILES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")  # all but the last also with .gz behind it
_UNREADABLE = {
    **dict.fromkeys((".zst", ".bz2", ".xz", ".lz4", ".zip", ".tar", ".tgz", ".7z"), "unpack it, or compress it as .gz"),
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "save the sheet as .csv"),
    **dict.fromkeys((".pkl", ".pickle", ".pt", ".npy", ".npz"), "write its rows as .jsonl"),
    ".arrow": "write its rows as .parquet, or name the folder of Dataset.save_to_disk with data=hf",
    ".txt": "rename it to .jsonl if each of its lines is a JSON object",
}


_ODD_PLACES = {
    stat.S_ISDIR: "is a folder; name a file",
    stat.S_ISFIFO: "is a pipe, which can be read only once, and rows are read again and again; write them to a file",
    stat.S_ISSOCK: "is a socket; name a file",
    stat.S_ISCHR: "is a device; name a file",
    stat.S_ISBLK: "is a device; name a file",
}
_AT_MOST_FOLDERS = 100_000  # that a pattern leads into


def check_regular(path: Path, *, missing: str) -> None:
    """Check that a path is a file that can be read again and again.

    Args:
        path: of a file, or a link to one.
        missing: ends the error if there is nothing.

    Raises:
        MissingFileError: saying what else stands there.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise MissingFileError(f"{path} is a symbolic link in a loop of links; name a file") from error
        if path.is_symlink():
            raise MissingFileError(f"{path} is a symbolic link to {os.readlink(path)}, which is not there") from error
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            raise MissingFileError(f"{path}: {missing}") from error
        raise MissingFileError(f"{path}: {os.strerror(error.errno)}; get permission for it, or name a file") from error
    for is_odd, words in _ODD_PLACES.items():
        if is_odd(mode):
            raise MissingFileError(f"{path} {words}")
    if os.path.realpath(path).startswith(("/proc/", "/sys/")):
        raise MissingFileError(f"{path} is a file of the kernel, whose content changes; name a file")


def files_named(paths: Any, *, key: str) -> list[Path]:
    """The files that paths name, in their order.

    Args:
        paths: one or several, each a file, a folder (all row files in it, at any depth, by name) or a glob pattern
            (its files, by name); ``~`` is the home folder.
        key: setting that holds the paths, for errors.

    Raises:
        MissingFileError: a path names no file, or one of a kind that cannot be read; the remedy is named.
    """
    given = listed_paths(paths, key=key)
    if not given:
        raise MissingFileError(f"{key} is empty; name at least one file ({', '.join(ROW_FILES)}), folder or pattern")
    files = [file for path in given for file in _files_of(os.path.expanduser(path), key)]
    return list(dict.fromkeys(files))  # of patterns that overlap


def listed_paths(paths: Any, *, key: str) -> list[str | os.PathLike]:
    """One path or several as a list.

    Raises:
        MissingFileError: they are something else.
    """
    given = list(paths) if isinstance(paths, list | tuple) else [paths]
    for path in given:
        if not isinstance(path, str | os.PathLike):
            raise MissingFileError(f"{key} must be a path or a list of paths, got {path!r:.80}")
    return given


def _files_of(path: str, key: str) -> list[Path]:
    # A path that exists is meant literally, even if its name holds a bracket.
    matches = [path] if os.path.lexists(path) else [] if "\0" in path else sorted(_matches(path, key))
    files = [Path(match) for match in matches if not os.path.isdir(match)]
    if len(matches) > 1:  # what a pattern matches besides is no pool
        files = [file for file in files if _holds_rows(file)] or files
    if not files:
        files = [file for match in matches for file in _files_in(Path(match), key)]
    if not files:
        raise MissingFileError(f"{key}: '{path}' matches no file{_hub_remedy(path, key)}")
    for file in files:
        _check_readable(file, key)
    return files


def _matches(pattern: str, key: str) -> set[str]:
    """What a pattern matches; ``**`` enters each folder once, so that links which lead back come to an end."""
    parts = pattern.split(os.sep)
    if "**" not in parts:
        return set(glob.glob(pattern))
    place = parts.index("**")
    before, after = os.sep.join(parts[:place]), os.sep.join(parts[place + 1 :])
    starts = sorted(glob.glob(before + os.sep)) if place else [""]
    found: set[str] = set()
    for folder in _folders_below(starts, key):
        found |= (
            _matches(os.path.join(folder, after), key) if after else {folder, *glob.glob(os.path.join(folder, "*"))}
        )
    return found - set(starts)


def _folders_below(starts: Sequence[str], key: str) -> Iterator[str]:
    """Folders at any depth but hidden ones, each by one path; one without links comes before one with."""
    seen: set[tuple[int, int]] = set()
    folders, links = deque(starts), deque[str]()
    while folders or links:
        if len(seen) > _AT_MOST_FOLDERS:
            raise MissingFileError(f"{key}: '**' leads into more than {_AT_MOST_FOLDERS:,} folders; start further down")
        folder = (folders or links).popleft()
        try:
            status = os.stat(folder or os.curdir)
            names = sorted(os.listdir(folder or os.curdir))
        except OSError:  # a folder that cannot be entered, which glob passes over, too
            continue
        if (identity := (status.st_dev, status.st_ino)) in seen:
            continue
        seen.add(identity)
        yield folder
        for path in (os.path.join(folder, name) for name in names if not name.startswith(".")):
            if os.path.isdir(path):
                (links if os.path.islink(path) else folders).append(path)


def _hub_remedy(path: str, key: str) -> str:
    is_name = re.fullmatch(r"(hf://datasets/)?(\w[\w.-]*/\w[\w.-]*)", path)
    if not key.startswith("data."):
        return ""
    if is_name:
        return f"; if it is a data set of the Hugging Face hub, set data=hf data.path={is_name[2]}"
    return "; fetch it first" if "://" in path else ""


def _files_in(folder: Path, key: str) -> list[Path]:
    if any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        raise MissingFileError(f"{key}: {folder} was written by Dataset.save_to_disk; set data=hf data.path={folder}")
    inside = (file for file in folder.rglob("*") if not any(part[0] == "." for part in file.relative_to(folder).parts))
    files = sorted(file for file in inside if file.is_file())
    found = [file for file in files if _holds_rows(file)]
    if not found:
        others = ", ".join(file.name for file in files[:3]) or "no file at all"
        raise MissingFileError(f"{key}: {folder} holds no row file ({', '.join(ROW_FILES)}), it holds {others}")
    return found


def _holds_rows(file: Path) -> bool:
    """Whether a file holds rows by its name, packed ones that cannot be read among them, so that none go unnoticed."""
    packed = Path(file.stem) if file.suffix.lower() in _UNREADABLE else file
    return kind_of(file) in ROW_FILES or kind_of(packed) in ROW_FILES


def _check_readable(file: Path, key: str) -> None:
    try:
        check_regular(file, missing="no such file")
    except MissingFileError as error:
        raise MissingFileError(f"{key}: {error}") from error
    kind = kind_of(file)
    if kind in _UNREADABLE or (kind == ".parquet" and file.suffix.lower() == ".gz"):
        raise MissingFileError(f"{key}: {file} cannot be read; {_UNREADABLE.get(kind, _UNREADABLE['.zip'])}")


def kind_of(path: Path) -> str:
    """The ending that says what a file holds, in small letters, whether it is compressed or not."""
    endings = [ending.lower() for ending in path.suffixes[-2:]]
    return (endings[0] if len(endings) > 1 and endings[-1] == ".gz" else endings[-1]) if endings else ""


def stem_of(path: Path) -> str:
    """A file's name without the endings that say what it holds."""
    name = path.name
    for ending in (".gz", *ROW_FILES):
        if len(name) > len(ending) and name.lower().endswith(ending):
            name = name[: -len(ending)]
    return name


def labels_of(files: Sequence[Path]) -> list[str]:
    """A name for each file, with which its rows' ids begin: its stem, or the end of its path if stems are equal."""
    places = {file.absolute() for file in files}
    labels: dict[Path, str] = {}
    n_parts = 0
    while len(labels) < len(places):
        tails = {place: "/".join(place.parts[-n_parts:]) if n_parts else stem_of(place) for place in places}
        shared = Counter(tails.values())
        labels |= {place: tail for place, tail in tails.items() if shared[tail] == 1 and place not in labels}
        n_parts += 1
    return [labels[file.absolute()] for file in files]
