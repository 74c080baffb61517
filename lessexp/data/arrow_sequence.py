"""A sequence that decodes its items when they are asked for, over Arrow data in memory or in a mapped file."""

import hashlib
import itertools
import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from jaxtyping import Int64

from lessexp.files import written_whole

Item = TypeVar("Item")

ROWS_PER_BATCH = 1000  # of a record batch on disk, and decoded at once; a few MB
_TOUCHED_UNTIL_RELEASE = 16_000  # rows; some tens of MB
_ROWS_TOUCHED_BY_A_RUN = 64  # at least: around what is read, a system maps more of the file


class ArrowStorage(Generic[Item]):
    """Record batches, and how to decode them.

    Args:
        table: has a column ``id``; it is kept as it is, never copied.
        decode: items of a record batch.
        key: names the table where it lies in a cache; None for any other.
        release: gives back memory that a mapped file takes; called after every few MB.
    """

    def __init__(
        self,
        table: pa.Table,
        decode: Callable[[pa.RecordBatch], list[Item]],
        *,
        key: str | None = None,
        release: Callable[[], None] | None = None,
    ):
        self.table = table
        self.key = key
        self._decode = decode
        self._batches = table.to_batches()
        self._starts = np.cumsum([0, *map(len, self._batches)], dtype=np.int64)
        self._release = release
        self._touched = 0

    def decoded(self, positions: Int64[np.ndarray, " n"]) -> list[Item]:
        """Items at positions of the table; neighbours within a record batch are decoded together."""
        batch_of = np.searchsorted(self._starts, positions, side="right") - 1
        breaks = np.flatnonzero((np.diff(positions) != 1) | (np.diff(batch_of) != 0)) + 1
        runs = list(itertools.pairwise([0, *breaks.tolist(), len(positions)]))
        items: list[Item] = []
        for first, last in runs:
            batch = batch_of[first]
            offset = int(positions[first] - self._starts[batch])
            items += self._decode(self._batches[batch].slice(offset, last - first))
        self._touched += len(items) + _ROWS_TOUCHED_BY_A_RUN * len(runs)
        if self._touched >= _TOUCHED_UNTIL_RELEASE:
            self.release()
        return items

    def release(self) -> None:
        """Give back memory of a mapped file; what is read again comes back by itself."""
        if self._release:
            self._release()
        self._touched = 0


class ArrowSequence(Sequence[Item], Generic[Item]):
    """Items of a storage, or some of them in some order; they exist while somebody holds them.

    Args:
        storage: shared by all sequences over it.
        positions: of the items within the storage; None takes all.
    """

    def __init__(self, storage: ArrowStorage[Item], positions: Int64[np.ndarray, " n"] | None = None):
        self.key = storage.key if positions is None else None
        self._storage = storage
        self._is_whole = positions is None
        self._positions = np.arange(len(storage.table), dtype=np.int64) if positions is None else positions

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> "ArrowSequence[Item]": ...

    def __getitem__(self, index):
        if isinstance(index, slice):
            return ArrowSequence(self._storage, self._positions[index])
        place = self._positions[index]  # an IndexError where there is none
        [item] = self._storage.decoded(np.array([place]))
        return item

    def __iter__(self) -> Iterator[Item]:
        for start in range(0, len(self), ROWS_PER_BATCH):
            yield from self._storage.decoded(self._positions[start : start + ROWS_PER_BATCH])

    def select(self, places: Sequence[int] | Int64[np.ndarray, " n"]) -> "ArrowSequence[Item]":
        """The items at some places, in the order given; nothing is decoded or copied."""
        return ArrowSequence(self._storage, self._positions[np.asarray(places, dtype=np.int64)])

    def column(self, name: str) -> pa.ChunkedArray:
        """One column for all items, decoding nothing else."""
        column = self._storage.table.column(name)
        return column if self._is_whole else column.take(pa.array(self._positions))

    @cached_property
    def identity(self) -> str:
        """Hash of the items' ids and contents in their order, from a column that holds a hash of each."""
        digest = hashlib.sha256()
        for example_id, content in zip(self.ids, self.column("content_hash").to_pylist(), strict=True):
            digest.update(f"{example_id!r} {content}\n".encode())
        return digest.hexdigest()

    @cached_property
    def ids(self) -> list[str]:
        """The id of every item."""
        found = self.column("id").to_pylist()
        self._storage.release()
        return found


def ids_of(rows: Sequence) -> list[str]:
    """The id of every row, read as a column where rows are stored in columns."""
    return rows.ids if isinstance(rows, ArrowSequence) else [row.example_id for row in rows]


def write_batches(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write record batches as an Arrow stream, the format of ``datasets``; the file appears whole or not at all."""
    with written_whole(path) as partial, pa.ipc.new_stream(str(partial), schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def open_mapped(
    path: Path, decode: Callable[[pa.RecordBatch], list[Item]], *, key: str | None = None
) -> ArrowSequence[Item]:
    """A sequence over a file of `write_batches`, which stays on disk."""
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    table = pa.ipc.open_stream(pa.py_buffer(mapped)).read_all()

    def release() -> None:
        # The pages are read again from the file when they are needed; without this, all that was ever read counts
        # as memory of this process.
        mapped.madvise(mmap.MADV_DONTNEED)

    can_release = hasattr(mapped, "madvise")
    return ArrowSequence(ArrowStorage(table, decode, key=key, release=release if can_release else None))
