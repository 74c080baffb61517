"""The one row format that pools, targets and subsets share, and its files.

A row is ``{"dataset": str, "id": str, "messages": [{"role": ..., "content": str}, ...]}``; target rows
add ``"task"`` and ``"subtask"``. Files are JSON lines (plain or gzip) or Parquet with these columns.
"""

import gzip
import hashlib
import json
import os
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet

from lessexp.errors import MissingFileError, UserError
from lessexp.files import written_whole

ROLES = ("system", "user", "assistant")
_PARQUET_ROWS_AT_ONCE = 1024  # decoded to Python objects; some MB


class RowError(UserError, ValueError):
    """A row that does not follow the format; the message names its file and line."""


@dataclass(frozen=True)
class Row:
    """One conversation.

    Attributes:
        dataset: source the row came from, e.g. ``dolly``.
        example_id: unique within its pool; the thread through all stages.
        messages: ``(role, content)`` pairs in the order they were said.
        task: benchmark the row stands for; target rows only.
        subtask: part of the benchmark; target rows only.
    """

    dataset: str
    example_id: str
    messages: tuple[tuple[str, str], ...]
    task: str | None = None
    subtask: str | None = None

    @property
    def answer_length(self) -> int:
        """Characters of what the assistant says."""
        return sum(len(content) for role, content in self.messages if role == "assistant")

    def to_json(self) -> dict[str, Any]:
        """The row as its file holds it."""
        row: dict[str, Any] = {
            "dataset": self.dataset,
            "id": self.example_id,
            "messages": [{"role": role, "content": content} for role, content in self.messages],
        }
        if self.subtask is not None:
            row |= {"task": self.task, "subtask": self.subtask}
        return row


def _required_string(record: dict[str, Any], field: str, where: str) -> str:
    value = record.get(field)
    if not isinstance(value, str) or not value:
        found = "missing" if field not in record else f"{value!r:.80}"
        raise RowError(f"{where}: field '{field}' must be a non-empty string, it is {found}")
    _check_unicode(value, f"field '{field}'", where)
    return value


def _check_unicode(text: str, what: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RowError(f"{where}: {what} is no valid Unicode ({error.reason})") from error


def _parse_message(message: Any, where: str) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise RowError(f"{where}: each message must be an object with 'role' and 'content'")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise RowError(f"{where}: unknown role {role!r:.80}; it must be one of {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise RowError(f"{where}: the 'content' of a {role} message must be a string")
    _check_unicode(content, f"the 'content' of a {role} message", where)
    return role, content


def parse_row(record: Any, *, where: str, is_target: bool = False) -> Row:
    """Check one decoded record and make it a row.

    Args:
        record: what the file holds for this row.
        where: file and line, for the error message.
        is_target: whether ``subtask`` (and ``task``) belong to the row; without a
            subtask the task's name, or the dataset's, stands for it.

    Raises:
        RowError: naming ``where`` and what is wrong.
    """
    if not isinstance(record, dict):
        raise RowError(f"{where}: a row must be a JSON object, it is {type(record).__name__}")
    dataset = _required_string(record, "dataset", where)
    example_id = _required_string(record, "id", where)
    messages = record.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RowError(f"{where}: field 'messages' must be a non-empty list")
    parsed = tuple(_parse_message(message, where) for message in messages)
    if all(role != "assistant" for role, _ in parsed):
        raise RowError(f"{where}: row {example_id!r:.80} has no assistant message, so there is nothing to learn")
    if not is_target:
        return Row(dataset, example_id, parsed)
    task = record.get("task") or dataset
    subtask = record.get("subtask") or task
    if not isinstance(task, str) or not isinstance(subtask, str):
        raise RowError(f"{where}: 'task' and 'subtask' must be strings")
    _check_unicode(task, "field 'task'", where)
    _check_unicode(subtask, "field 'subtask'", where)
    return Row(dataset, example_id, parsed, task=task, subtask=subtask)


def json_records(path: Path) -> Iterator[tuple[str, Any]]:
    """What each line of a file of JSON lines holds, with file and line; blank lines are passed over.

    Raises:
        RowError: a line is not JSON, or a ``.gz`` file is not whole.
    """
    # Binary lines end at \n alone; text mode would also split at U+2028 and its like.
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                where = f"{path}, line {number}"
                if not line.strip():
                    continue
                try:
                    yield where, json.loads(line)
                # ValueError: no JSON, no UTF-8, or a number of too many digits; RecursionError: nested too deep.
                except (ValueError, RecursionError) as error:
                    raise RowError(f"{where}: not valid JSON ({error})") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise RowError(f"{path}: not a whole gzip file ({error})") from error


def _parquet_records(path: Path) -> Iterator[tuple[str, Any]]:
    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(_PARQUET_ROWS_AT_ONCE):
            for record in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", record
    # Arrow says OSError of a damaged footer; what is no UTF-8 and no date shows when it becomes a Python object.
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RowError(f"{path}: not a whole Parquet file ({reason})") from error


def read_records(paths: Sequence[str | os.PathLike]) -> Iterator[tuple[str, Any]]:
    """What row files hold, in the order given, not checked yet; each record with its file and line.

    Args:
        paths: ``.jsonl``, ``.jsonl.gz`` or ``.parquet`` files.

    Raises:
        MissingFileError: a path does not exist.
        RowError: a file cannot be decoded.
    """
    for path in map(Path, paths):
        if not path.is_file():
            raise MissingFileError(f"{path}: no such file; give paths of .jsonl, .jsonl.gz or .parquet files")
        yield from _parquet_records(path) if path.suffix == ".parquet" else json_records(path)


def checked_rows(records: Callable[[], Iterable[tuple[str, Any]]], *, is_target: bool = False) -> Iterator[Row]:
    """Rows of decoded records, one at a time; of those that went by, eight bytes each are kept.

    Args:
        records: starts reading; each record comes with the place an error names. It is called once more to name
            both places of an id that occurs twice.
        is_target: see `parse_row`.

    Raises:
        RowError: a row breaks the format; or, once all are read, an id occurs twice.
    """
    hashes = array("q")
    for where, record in records():
        row = parse_row(record, where=where, is_target=is_target)
        hashes.append(hash(row.example_id))
        yield row
    ordered = np.sort(np.frombuffer(hashes, dtype=np.int64))
    repeated = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    if repeated:
        _refuse_duplicates(records(), repeated)


def _refuse_duplicates(records: Iterable[tuple[str, Any]], hashes: set[int]) -> None:
    """Find the id behind hashes that occurred twice; different ids may share one."""
    first_seen: dict[str, str] = {}
    for where, record in records:
        example_id = record["id"]
        if hash(example_id) not in hashes:
            continue
        if example_id in first_seen:
            raise RowError(
                f"{where}: id {example_id!r:.80} was already used at {first_seen[example_id]}; ids must be unique"
            )
        first_seen[example_id] = where


def read_rows(paths: Sequence[str | os.PathLike], *, is_target: bool = False) -> list[Row]:
    """Read row files in the order given, all into memory.

    Args:
        paths: ``.jsonl``, ``.jsonl.gz`` or ``.parquet`` files.
        is_target: see `parse_row`.

    Raises:
        MissingFileError: a path does not exist.
        RowError: a row breaks the format, or an id occurs twice; both places are named.
    """
    return list(checked_rows(lambda: read_records(paths), is_target=is_target))


def write_rows(path: str | os.PathLike, rows: Iterable[Row]) -> None:
    """Write rows as JSON lines; the file appears whole or not at all."""
    with written_whole(Path(path)) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row.to_json(), ensure_ascii=False) + "\n")


def subtask_names(target: Iterable[Row]) -> list[str]:
    """The subtasks of target rows, in the order of their first row."""
    return list(dict.fromkeys(row.subtask for row in target))


def fingerprint(rows: Iterable[Row]) -> str:
    """Hash of the rows' content and order: equal exactly when the data are equal."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row.to_json(), sort_keys=True).encode())
        digest.update(b"\n")
    return digest.hexdigest()
