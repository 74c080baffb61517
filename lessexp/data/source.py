"""Where rows come from before they are read: what they are determined by, and how to read them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lessexp.data.record_files import records_of
from lessexp.data.row_paths import labels_of, listed_paths, stem_of
from lessexp.errors import UserError
from lessexp.files import sha256_of

Paths = str | Sequence[str]
"""One path, or several."""
ExpectedCounts = Mapping[str, int | None]
"""Rows by data set, as far as they are known beforehand; None stands for any number."""


@runtime_checkable
class RowSource(Protocol):
    """Rows that have not been read yet."""

    counts: ExpectedCounts | None
    """What the pool should hold, or None if nobody knows."""
    skips_bad_rows: bool
    """Whether a row that breaks the format is left out; otherwise nothing is computed."""

    def identity(self) -> dict[str, Any]:
        """All that determines the rows and what is said of those that are left out."""

    def records(self) -> Iterator[tuple[str, Any]]:
        """Decoded records in the row format, not checked yet, each with the place that an error names.

        A `RowError` stands for a record that cannot be decoded.
        """


@dataclass(frozen=True)
class RowFiles:
    """Rows in files, one file after the other.

    Attributes:
        paths: see `lessexp.data.record_files`.
        counts: see `RowSource`.
        skips_bad_rows: see `RowSource`.
    """

    paths: Sequence[Path]
    counts: ExpectedCounts | None = None
    skips_bad_rows: bool = False

    def identity(self) -> dict[str, Any]:
        """The content of the files in their order, and the names that rows without an id or a data set take from them.

        Rows that are left out are listed with their file, so that its whole name counts then.
        """
        names = [[stem_of(path), label] for path, label in zip(self.paths, labels_of(self.paths), strict=True)]
        skipping = {"paths": [str(path) for path in self.paths]} if self.skips_bad_rows else {}
        files = [[path.suffix, sha256_of(path)] for path in self.paths]
        return {"files": files, "names": names, **skipping}

    def records(self) -> Iterator[tuple[str, Any]]:
        """See `lessexp.data.record_files.records_of`."""
        return records_of(self.paths)


class SourceSettingsError(UserError, ValueError):
    """Settings of ``data`` that name no rows, or say nothing of what to do with them."""


def skips_bad_rows(on_bad_row: str) -> bool:
    """Whether bad rows are left out.

    Args:
        on_bad_row: ``stop`` or ``skip``.

    Raises:
        SourceSettingsError: it is neither.
    """
    if on_bad_row not in ("stop", "skip"):
        raise SourceSettingsError(f"data.on_bad_row must be stop or skip, got {on_bad_row!r:.80}")
    return on_bad_row == "skip"


def one_of_both(path: Any, paths: Any) -> list[str]:
    """The setting ``data.path``, which may be called ``data.paths`` too, as a list.

    Raises:
        SourceSettingsError: neither is set, or both to different values.
        MissingFileError: it is set to something else than paths.
    """
    if path is not None and paths is not None and path != paths:
        raise SourceSettingsError("data.path and data.paths are two names of one setting; give one of them")
    found = path if path is not None else paths
    if not found and found != 0:
        raise SourceSettingsError("data.path is not set; give it on the command line: data.path=FILE, or a list")
    return listed_paths(found, key="data.path")
