"""Rows that a notebook holds: dictionaries, or a ``datasets.Dataset``, in the row format.

Only ``messages`` must be there. A missing ``dataset`` is called after what the rows are for, and a missing ``id`` is
that name with the row's number; columns that are not of the row format are left behind.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lessexp.data.columns import messages
from lessexp.data.rows import RowError

if TYPE_CHECKING:
    from datasets import Dataset

_ROWS_AT_ONCE = 1024  # decoded to Python objects; some MB


def given_records(rows: "Sequence[Mapping[str, Any]] | Dataset", *, name: str) -> Iterator[tuple[str, Any]]:
    """Records in the row format, not checked yet, each with the place that an error names.

    Args:
        rows: with ``messages`` and, where they have them, ``dataset``, ``id``, ``task`` and ``subtask``.
        name: what the rows are for, e.g. ``pool``.

    Raises:
        RowError: a row is no dictionary, or its ``messages`` are missing or something else.
    """
    for number, record in enumerate(_records(rows)):
        where = f"{name}[{number}]"
        if not isinstance(record, Mapping):
            raise RowError(f"{where}: a row must be a dictionary with 'messages', it is {record!r:.80}")
        row = {"dataset": name, "id": f"{name}-{number}"}
        row |= {field: value for field, value in record.items() if value is not None}
        row["messages"] = messages(record, where=where, column="messages")
        if type(row["id"]) is int:
            row["id"] = str(row["id"])
        yield where, row


def _records(rows: "Sequence[Mapping[str, Any]] | Dataset") -> Iterator[Any]:
    if isinstance(rows, Sequence):
        yield from rows
        return
    # As Arrow holds them: nothing but text is decoded, neither images nor sound.
    for table in rows.with_format("arrow").iter(_ROWS_AT_ONCE):
        yield from table.to_pylist()
