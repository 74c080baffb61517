"""Pools made ready: read, checked and tokenised, in memory if they are small and else in files that runs share.

<folder>/rows/3f2a…/rows.arrow           named by a hash of the content of the pool's files
                   /bad_rows.parquet     rows that break the format and are left out
<folder>/tokenized/9c41…/tokenized.arrow by that hash, the tokenizer, the chat format and the length
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from transformers import PreTrainedTokenizerBase

from lessexp.artifacts import build_once
from lessexp.data.arrow_rows import ROW_SCHEMA, blocks_of, decode_rows, encode_rows, rows_in_memory
from lessexp.data.arrow_sequence import ArrowSequence, ArrowStorage, open_mapped, write_batches
from lessexp.data.bad_rows import BadRow, bad_row_table, refuse_if_all_are_bad
from lessexp.data.chat_format import ChatFormat
from lessexp.data.rows import Row, checked_rows
from lessexp.data.source import RowSource
from lessexp.data.tokenize import Dropped, TokenizedRow, tokenize_row
from lessexp.data.tokenized_rows import (
    TOKENIZED_SCHEMA,
    Tokenize,
    decode_tokenized,
    tokenized_batches,
    tokenized_in_memory,
    without_dropped,
)
from lessexp.identity import hash_of, identity_of

_FORMAT_VERSION = 3
_BAD_ROWS = "bad_rows.parquet"

Progress = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
"""A bar with a description and, where it is known, a total; yields what is told how many more are done."""


@dataclass(frozen=True)
class Reader:
    """How a model reads rows.

    Attributes:
        tokenizer: the model's, as it was loaded.
        chat_format: over this tokenizer.
        max_length: see `lessexp.data.tokenize.tokenize_row`.
    """

    tokenizer: PreTrainedTokenizerBase
    chat_format: ChatFormat
    max_length: int

    @property
    def tokenize(self) -> Tokenize:
        """Tokenises one row."""
        return partial(tokenize_row, tokenizer=self.tokenizer, chat_format=self.chat_format, max_length=self.max_length)


_PLACES = re.compile(r"name_or_path|.*_file|is_local|local_files_only|files_loaded|verbose|deprecation_warnings")


@identity_of.register
def _(tokenizer: PreTrainedTokenizerBase) -> Any:
    """A tokenizer's serialised form, templates and settings; where it was loaded from is no part of them."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str()) | {"truncation": None, "padding": None}  # set by calls
    settings = {**tokenizer.init_kwargs, **vars(tokenizer)}
    held = {
        name: value
        for name, value in settings.items()
        if not _PLACES.fullmatch(name) and name not in ("_tokenizer", "init_inputs", "init_kwargs")
    }
    return hash_of([type(tokenizer).__name__, backend, json.loads(json.dumps(held, default=repr, sort_keys=True))])


@dataclass(frozen=True)
class Preparation:
    """How pools are made ready.

    Attributes:
        folder: of the files, which runs share.
        in_memory_below: rows; a smaller pool is read and tokenised in this process and needs no file.
        num_proc: processes that tokenise.
        announce: gets a sentence when files are there already, or another run is writing them.
        progress: shows how far it is.
    """

    folder: Path
    in_memory_below: int
    num_proc: int
    announce: Callable[[str], None]
    progress: Progress

    def rows(self, source: RowSource | Sequence[Row]) -> tuple[ArrowSequence[Row], pa.Table]:
        """Rows of a source, checked, and those that are left out, see `lessexp.data.bad_rows.bad_row_table`.

        Raises:
            RowError: see `lessexp.data.rows.checked_rows`; or all rows would be left out.
        """
        if not isinstance(source, RowSource):
            return rows_in_memory(source), bad_row_table([])
        found: list[BadRow] = []
        first = list(islice(_checked(source, found), self.in_memory_below))
        if len(first) < self.in_memory_below:
            rows, bad_rows = rows_in_memory(first), bad_row_table(found)
        else:
            rows, bad_rows = self._rows_in_file(source)
        refuse_if_all_are_bad(len(rows), bad_rows)
        return rows, bad_rows

    def _rows_in_file(self, source: RowSource) -> tuple[ArrowSequence[Row], pa.Table]:
        def batches(folder: Path) -> Iterator[pa.RecordBatch]:
            found: list[BadRow] = []
            yield from map(encode_rows, blocks_of(_checked(source, found)))
            pyarrow.parquet.write_table(bad_row_table(found), folder / _BAD_ROWS)

        fields = {"format": _FORMAT_VERSION} | source.identity()
        rows = self._kept("rows", fields, ROW_SCHEMA, batches, total=None, decode=decode_rows)
        return rows, pyarrow.parquet.read_table(self.folder / "rows" / rows.key / _BAD_ROWS)

    def tokenized(self, rows: Sequence[Row], reader: Reader) -> tuple[ArrowSequence[TokenizedRow], list[Dropped]]:
        """Rows as a model reads them, and those that cannot be learnt from.

        Args:
            rows: in any sequence.
            reader: the model's way.
        """
        if len(rows) < self.in_memory_below:
            return without_dropped(tokenized_in_memory(rows, reader.tokenize))

        def batches(_: Path | None = None) -> Iterator[pa.RecordBatch]:
            return tokenized_batches(rows, reader.tokenize, num_proc=self.num_proc)

        if not isinstance(rows, ArrowSequence) or rows.key is None:
            with self.progress("tokenising", len(rows)) as advance:
                table = pa.Table.from_batches(_counted(batches(), advance))
            return without_dropped(ArrowSequence(ArrowStorage(table, decode_tokenized)))
        fields = {"format": _FORMAT_VERSION, "rows": rows.key, "reader": identity_of(reader)}
        results = self._kept("tokenized", fields, TOKENIZED_SCHEMA, batches, total=len(rows), decode=decode_tokenized)
        return without_dropped(results)

    def _kept(
        self,
        kind: str,
        fields: Mapping[str, Any],
        schema: pa.Schema,
        batches: Callable[[Path], Iterator[pa.RecordBatch]],
        *,
        total: int | None,
        decode: Callable[[pa.RecordBatch], list],
    ) -> ArrowSequence:
        """Write a file once, and map it; ``batches`` may write another one beside it."""

        def build(folder: Path) -> dict[str, Any]:
            with self.progress(f"pool, {kind}", total) as advance:
                write_batches(folder / f"{kind}.arrow", schema, _counted(batches(folder), advance))
            return {}

        key = hash_of(fields)
        folder = self.folder / kind / key
        build_once(folder, fields, build, announce=lambda text: self.announce(f"pool, {kind}: {text}"))
        return open_mapped(folder / f"{kind}.arrow", decode, key=key)


def _checked(source: RowSource, bad_rows: list[BadRow]) -> Iterator[Row]:
    """Rows of a source; those that it leaves out are added to ``bad_rows``."""
    skip = bad_rows.append if source.skips_bad_rows else None
    return checked_rows(source.records, skip=skip, remedy="; data.on_bad_row=skip leaves such rows out")


def _counted(batches: Iterator[pa.RecordBatch], advance: Callable[[int], None]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch
        advance(len(batch))
