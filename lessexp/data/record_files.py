"""Files of records: JSON lines, JSON arrays, CSV and Parquet, under any of their usual names.

Nothing is checked here but that a record can be decoded; `lessexp.data.rows` makes rows of records.
"""

import contextlib
import csv
import gzip
import io
import itertools
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet

from lessexp.data.row_paths import ROW_FILES, check_regular, kind_of, labels_of, stem_of
from lessexp.errors import UserError
from lessexp.identity import identity_of

_PARQUET_ROWS_AT_ONCE = 1024  # decoded to Python objects; some MB
TABLES = {".csv": (",", ";", "\t"), ".tsv": ("\t",)}  # what stands between cells: the first that is in the first line
_BOM = b"\xef\xbb\xbf"
LARGEST_LINE = 2**26  # bytes: one row of a file of lines, whose tokens take thirty times as much
LARGEST_ARRAY = 2**31  # bytes: a JSON array, which is read as a whole and takes several times as much


class RowError(UserError, ValueError):
    """A row that does not follow the format; the message names its file and line."""


class Place(str):
    """Where a record stands, in the words of an error, and the parts of it.

    Attributes:
        file: or data set.
        line: of the file, or the record's number where its lines mean nothing.
    """

    file: str
    line: int

    def __new__(cls, text: str, *, file: str | os.PathLike, line: int):
        """The text and its parts."""
        place = super().__new__(cls, text)
        place.file, place.line = str(file), line
        return place


@identity_of.register
def _(_place: Place) -> None:
    """Where something was read is no part of what was read."""


Decoded = Iterator[tuple[Place, Any]]
"""Each record with its place; a `RowError` stands for one that cannot be decoded, and the next one follows."""


def decoded_records(path: Path) -> Decoded:
    """What a file holds, record by record; a JSON array alone is read into memory as a whole.

    Raises:
        RowError: the file as such cannot be decoded.
    """
    kind = kind_of(path)
    if kind == ".parquet":
        yield from _parquet_records(path)
    elif kind in TABLES:
        yield from _table_records(path)
    else:
        yield from _json_records(path)


def json_records(path: Path) -> Iterator[tuple[Place, Any]]:
    """What a file of JSON lines or a JSON array holds.

    Raises:
        RowError: a line or the file cannot be decoded.
    """
    return raising(_json_records(path))


def raising(records: Iterable[tuple[Place, Any]]) -> Iterator[tuple[Place, Any]]:
    """The same records; the first that cannot be decoded is raised."""
    for where, record in records:
        if isinstance(record, RowError):
            raise record
        yield where, record


def _opened(path: Path) -> io.BufferedIOBase:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")


def _json_records(path: Path) -> Decoded:
    try:
        array = _json_array(path)
        if array is not None:
            yield from ((Place(f"{path}, row {n}", file=path, line=n), item) for n, item in enumerate(array, start=1))
            return
        with _opened(path) as file:
            # Binary lines end at \n alone; text mode would also split at U+2028 and its like.
            for number, line in enumerate(_bounded_lines(file), start=1):
                where = Place(f"{path}, line {number}", file=path, line=number)
                if len(line) > LARGEST_LINE:
                    yield (
                        where,
                        RowError(f"{where}: holds more than {LARGEST_LINE:,} bytes, which is too much for a row"),
                    )
                elif line := line.removeprefix(_BOM).strip():  # files with such a mark may have been joined to one
                    try:
                        yield where, json.loads(line)
                    # ValueError: no JSON, no UTF-8, or a number of too many digits; RecursionError: nested too deep.
                    except (ValueError, RecursionError) as error:
                        yield where, RowError(f"{where}: not valid JSON ({error})")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise RowError(f"{path}: not a whole gzip file ({error})") from error


def _bounded_lines(file: io.BufferedIOBase) -> Iterator[bytes]:
    """The lines of a file; of one that is too long a beginning that is too long, too."""
    while line := file.readline(LARGEST_LINE + 1):
        yield line
        while len(line) > LARGEST_LINE and not line.endswith(b"\n"):
            line = file.readline(LARGEST_LINE + 1)


def _json_array(path: Path) -> list[Any] | None:
    """The items of a file that holds one JSON array, or one object over several lines; None if it holds lines."""
    with _opened(path) as file:
        lines = iter(lambda: file.readline(LARGEST_LINE), b"")
        first = next((line for line in lines if line.removeprefix(_BOM).strip()), b"").removeprefix(_BOM)
        if first[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise RowError(f"{path}: its text is UTF-16; save it as UTF-8")
        start = first.lstrip()[:1]
        if start != b"[" and not (start == b"{" and kind_of(path) == ".json" and not _is_json(first)):
            return None
        if start == b"{" and len(first) == LARGEST_LINE:  # one line, for an object
            return None
        text = first + file.read(LARGEST_ARRAY)
        if len(text) > LARGEST_ARRAY:
            raise RowError(
                f"{path}: holds more than {LARGEST_ARRAY:,} bytes in one JSON array; write a row a line, as "
                "`jq -c '.[]' FILE > rows.jsonl` does"
            )
        try:
            whole = json.loads(text)
        except (ValueError, RecursionError) as error:
            if start == b"{" or _is_json(first):
                return None
            raise RowError(f"{path}: not a whole JSON array ({error})") from error
    if isinstance(whole, dict) and "messages" not in whole:
        raise RowError(
            f"{path}: holds one JSON object ({', '.join(whole)[:80]}) and no list of rows; write the list alone, "
            "as `jq .data FILE > rows.json` does"
        )
    return [whole] if isinstance(whole, dict) else whole


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def table_head(path: Path) -> tuple[str, list[str]]:
    """What stands between the cells of a CSV or TSV file, and its columns, all of text.

    Raises:
        RowError: the file is no table.
    """
    with _opened_table(path) as table:
        return table.reader.dialect.delimiter, list(table.fieldnames or [])


@contextlib.contextmanager
def _opened_table(path: Path) -> Iterator[csv.DictReader]:
    csv.field_size_limit(LARGEST_LINE)  # a text may be longer than the 131,072 characters that csv takes by itself
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            lines = itertools.dropwhile(str.isspace, _table_lines(file, path))
            names = next(lines, "")
            marks = TABLES[kind_of(path)]
            delimiter = next((mark for mark in marks if mark in names), marks[0])
            yield csv.DictReader(itertools.chain([names] if names else [], lines), delimiter=delimiter)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise RowError(f"{path}: not a whole gzip file ({error})") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise RowError(f"{path}: not a table in UTF-8 ({error}); save it as CSV in UTF-8") from error


def _table_lines(file: io.TextIOBase, path: Path) -> Iterator[str]:
    number = 0
    while line := file.readline(LARGEST_LINE + 1):
        number += 1
        if len(line) > LARGEST_LINE:  # nobody knows where the next row begins
            raise RowError(f"{path}, line {number}: holds more than {LARGEST_LINE:,} characters, too much for a row")
        yield line


def _table_records(path: Path) -> Decoded:
    with _opened_table(path) as table:
        for number, record in enumerate(table, start=1):
            where = Place(f"{path}, row {number}", file=path, line=number)
            if None in record:
                yield where, RowError(f"{where}: has more cells than the file has columns")
                continue
            # A table has an empty cell where a JSON row lacks the field.
            empty = [name for name in ("dataset", "id") if not record.get(name)]
            yield where, {name: text for name, text in record.items() if name not in empty and text is not None}


def _parquet_records(path: Path) -> Decoded:
    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(_PARQUET_ROWS_AT_ONCE):
            for record in batch.to_pylist():
                number += 1
                yield Place(f"{path}, row {number}", file=path, line=number), record
    # Arrow says OSError of a damaged footer; what is no UTF-8 and no date shows when it becomes a Python object.
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RowError(f"{path}: not a whole Parquet file ({reason})") from error


def named(record: Any, *, dataset: str, example_id: str) -> Any:
    """The record with a data set and an id where it has none, and its id as text; anything but a record as it is."""
    if not isinstance(record, Mapping):
        return record
    names = {"dataset": dataset, "id": example_id}
    given = {field: record[field] for field in names if record.get(field) is not None}
    if type(given.get("id")) is int:
        given["id"] = str(given["id"])
    return {**record, **names, **given}


def records_of(paths: Sequence[Path]) -> Decoded:
    """The records of files, one file after the other, named by `named` after their file and line.

    Raises:
        MissingFileError: a file is not there.
        RowError: a file as such cannot be decoded.
    """
    for path, label in zip(paths, labels_of(paths), strict=True):
        check_regular(path, missing=f"no such file; give paths of {', '.join(ROW_FILES)} files")
        for where, record in decoded_records(path):
            yield where, named(record, dataset=stem_of(path), example_id=f"{label}-{where.line}")


def read_records(paths: Sequence[str | os.PathLike]) -> Iterator[tuple[Place, Any]]:
    """The records of `records_of`.

    Raises:
        MissingFileError: a file is not there.
        RowError: a record or a file cannot be decoded.
    """
    return raising(records_of([Path(path) for path in paths]))
