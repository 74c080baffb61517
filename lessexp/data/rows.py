"""The one row format that pools, targets and subsets share.

A row is ``{"dataset": str, "id": str, "messages": [{"role": ..., "content": str}, ...]}``; target rows add ``"task"``
and ``"subtask"``. In files (`lessexp.data.record_files`) ``messages`` are enough. Whatever else a row or a message
holds is carried along and read by nothing.
"""

import hashlib
import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lessexp.data.bad_rows import BadRow
from lessexp.data.extra_columns import extra_of
from lessexp.data.messages import check_text, messages_of, parse_message
from lessexp.data.record_files import RowError, records_of
from lessexp.files import written_whole


@dataclass(frozen=True)
class Row:
    """One conversation.

    Attributes:
        dataset: source the row came from, e.g. ``dolly``.
        example_id: unique within its pool; the thread through all stages.
        messages: ``(role, content)`` pairs in the order they were said.
        task: benchmark the row stands for; target rows only.
        subtask: part of the benchmark; target rows only.
        extra: what else the row was given with, as a JSON object: its other columns, and ``messages`` as they were
            if they hold more than roles and texts. No stage reads it, so no artifact's key depends on it.
    """

    dataset: str
    example_id: str
    messages: tuple[tuple[str, str], ...]
    task: str | None = None
    subtask: str | None = None
    extra: str | None = None

    @property
    def answer_length(self) -> int:
        """Characters of what the assistant says."""
        return sum(len(content) for role, content in self.messages if role == "assistant")

    def to_json(self) -> dict[str, Any]:
        """The row as its file holds it."""
        return self.content() | (json.loads(self.extra) if self.extra else {})

    def content(self) -> dict[str, Any]:
        """What stages read of the row."""
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
    check_text(value, f"field '{field}'", where)
    return value


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
    if not isinstance(record, Mapping):
        raise RowError(f"{where}: a row must be a JSON object, it is {type(record).__name__}")
    dataset = _required_string(record, "dataset", where)
    example_id = _required_string(record, "id", where)
    messages = messages_of(record, where, is_target=is_target)
    parsed = tuple(parse_message(message, where) for message in messages)
    if all(role != "assistant" for role, _ in parsed):
        raise RowError(f"{where}: row {example_id!r:.80} has no assistant message, so there is nothing to learn")
    taken = ["dataset", "id", "messages"] + (["task", "subtask"] if is_target else [])
    extra = extra_of(record, messages, taken=taken, where=where)
    if not is_target:
        return Row(dataset, example_id, parsed, extra=extra)
    task = record.get("task") or dataset
    subtask = record.get("subtask") or task
    if not isinstance(task, str) or not isinstance(subtask, str):
        raise RowError(f"{where}: 'task' and 'subtask' must be strings")
    check_text(task, "field 'task'", where)
    check_text(subtask, "field 'subtask'", where)
    return Row(dataset, example_id, parsed, task=task, subtask=subtask, extra=extra)


def checked_rows(
    records: Callable[[], Iterable[tuple[str, Any]]],
    *,
    is_target: bool = False,
    skip: Callable[[BadRow], None] | None = None,
    remedy: str = "",
) -> Iterator[Row]:
    """Rows of decoded records, one at a time.

    Args:
        records: starts reading; each record comes with the place an error names, and a `RowError` stands for one that
            could not be decoded. It is called once more to name both places of an id that occurs twice.
        is_target: see `parse_row`.
        skip: gets each row that breaks the format or has the id of an earlier one, and it is left out; all ids are
            kept in memory for this. None raises, and keeps eight bytes of each row.
        remedy: ends an error about a row.

    Raises:
        RowError: a row breaks the format; or, once all are read, an id occurs twice; or a file cannot be decoded.
    """
    hashes = array("q")
    seen: set[str] = set()
    for where, record in records():
        try:
            row = _row_of(record, where, is_target, seen)
        except RowError as error:
            if skip is None:
                raise RowError(f"{error}{remedy}") from error
            skip(BadRow(_id_of(record), where, str(error).removeprefix(where).lstrip(":, ")))
            continue
        if skip is None:
            hashes.append(hash(row.example_id))
        else:
            seen.add(row.example_id)
        yield row
    ordered = np.sort(np.frombuffer(hashes, dtype=np.int64))
    repeated = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    if repeated:
        _refuse_duplicates(records(), repeated, remedy)


def _row_of(record: Any, where: str, is_target: bool, seen: Set[str]) -> Row:
    if isinstance(record, RowError):
        raise record
    row = parse_row(record, where=where, is_target=is_target)
    if row.example_id in seen:
        raise RowError(f"{where}: id {row.example_id!r:.80} was already used by an earlier row; ids must be unique")
    return row


def _id_of(record: Any) -> str | None:
    example_id = record.get("id") if isinstance(record, Mapping) else None
    return example_id if isinstance(example_id, str) else None


def _refuse_duplicates(records: Iterable[tuple[str, Any]], hashes: Set[int], remedy: str) -> None:
    """Find the id behind hashes that occurred twice; different ids may share one."""
    first_seen: dict[str, str] = {}
    for where, record in records:
        example_id = record["id"]
        if hash(example_id) not in hashes:
            continue
        if example_id in first_seen:
            raise RowError(
                f"{where}: id {example_id!r:.80} was already used at {first_seen[example_id]}; "
                f"ids must be unique{remedy}"
            )
        first_seen[example_id] = where


def read_rows(paths: Sequence[str | os.PathLike], *, is_target: bool = False) -> list[Row]:
    """Read row files in the order given, all into memory.

    Args:
        paths: files, see `lessexp.data.record_files`.
        is_target: see `parse_row`.

    Raises:
        MissingFileError: a path does not exist.
        RowError: a row breaks the format, or an id occurs twice; both places are named.
    """
    files = [Path(path) for path in paths]
    return list(checked_rows(lambda: records_of(files), is_target=is_target))


def write_rows(path: str | os.PathLike, rows: Iterable[Row]) -> None:
    """Write rows as JSON lines; the file appears whole or not at all."""
    write_records(path, (row.to_json() for row in rows))


def write_records(path: str | os.PathLike, records: Iterable[Any]) -> None:
    """Write records as JSON lines, checked or not; the file appears whole or not at all."""
    with written_whole(Path(path)) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        for record in records:
            file.write(_as_line(record) + "\n")


def _as_line(record: Any) -> str:
    text = json.dumps(record, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character in another column, which JSON can name and UTF-8 cannot
        return json.dumps(record)
    return text


def subtask_names(target: Iterable[Row]) -> list[str]:
    """The subtasks of target rows, in the order of their first row."""
    return list(dict.fromkeys(row.subtask for row in target))


def subtasks_of(example_ids: Iterable[str], target: Iterable[Row] | None) -> tuple[str, ...] | None:
    """Subtasks of a target's rows in the order of ``example_ids``; ``None`` for a pool's, which has no target."""
    if target is None:
        return None
    subtask_of = {row.example_id: row.subtask for row in target}
    return tuple(subtask_of[name] for name in example_ids)


def fingerprint(rows: Iterable[Row]) -> str:
    """Hash of the rows' content and order: equal exactly when the data are equal."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row.content(), sort_keys=True).encode())
        digest.update(b"\n")
    return digest.hexdigest()
