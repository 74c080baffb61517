"""Where rows come from before they are read: what they are determined by, and how to read them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lessexp.data.rows import read_records
from lessexp.files import sha256_of

ExpectedCounts = Mapping[str, int | None]
"""Rows by data set, as far as they are known beforehand; None stands for any number."""


@runtime_checkable
class RowSource(Protocol):
    """Rows that have not been read yet."""

    counts: ExpectedCounts | None
    """What the pool should hold, or None if nobody knows."""

    def identity(self) -> dict[str, Any]:
        """All that determines the rows: equal where they are equal, whatever their files are called."""

    def records(self) -> Iterator[tuple[str, Any]]:
        """Decoded records in the row format, not checked yet, each with the place that an error names."""


@dataclass(frozen=True)
class RowFiles:
    """Rows in files, one file after the other.

    Attributes:
        paths: ``.jsonl``, ``.jsonl.gz`` or ``.parquet`` files.
        counts: see `RowSource`.
    """

    paths: Sequence[Path]
    counts: ExpectedCounts | None = None

    def identity(self) -> dict[str, Any]:
        """The content of the files, in order."""
        return {"files": [[path.suffix, sha256_of(path)] for path in self.paths]}

    def records(self) -> Iterator[tuple[str, Any]]:
        """See `lessexp.data.rows.read_records`."""
        return read_records(self.paths)
