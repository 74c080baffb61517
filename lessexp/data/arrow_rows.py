"""Rows as Arrow columns, in the layout of the row format."""

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa

from lessexp.data.arrow_sequence import ROWS_PER_BATCH, ArrowSequence, ArrowStorage
from lessexp.data.rows import Row

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
ROW_SCHEMA = pa.schema(
    [
        ("dataset", pa.string()),
        ("id", pa.string()),
        ("messages", _MESSAGES),
        ("task", pa.string()),
        ("subtask", pa.string()),
        ("extra", pa.string()),
    ]
)


def encode_rows(rows: Sequence[Row]) -> pa.RecordBatch:
    """Rows as a record batch of `ROW_SCHEMA`."""
    columns = [
        [row.dataset for row in rows],
        [row.example_id for row in rows],
        [[{"role": role, "content": content} for role, content in row.messages] for row in rows],
        [row.task for row in rows],
        [row.subtask for row in rows],
        [row.extra for row in rows],
    ]
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, ROW_SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=ROW_SCHEMA)


def decode_rows(batch: pa.RecordBatch) -> list[Row]:
    """The rows of a record batch."""
    return [
        Row(dataset, example_id, tuple((turn["role"], turn["content"]) for turn in messages), *others)
        for dataset, example_id, messages, *others in zip(
            *(column.to_pylist() for column in batch.columns), strict=True
        )
    ]


def table_of_rows(rows: Sequence[Row]) -> pa.Table:
    """Rows with all their columns, one Arrow column for each, as ``datasets`` would hold them.

    Values without a common type become JSON text; messages are reduced to role and content then.
    """
    table = pa.Table.from_batches([encode_rows(rows)]).select(["dataset", "id", "messages"])
    extras = [json.loads(row.extra) if row.extra else {} for row in rows]
    for name in dict.fromkeys(itertools.chain.from_iterable(extras)):
        if name == "messages":
            values = [extra.get(name, own) for extra, own in zip(extras, table[name].to_pylist(), strict=True)]
            with contextlib.suppress(pa.ArrowException, OverflowError, ValueError):
                table = table.set_column(2, name, pa.array(values))
        else:
            table = table.append_column(name, _column([extra.get(name) for extra in extras]))
    return table


def _column(values: Sequence[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, ValueError):
        return pa.array([None if value is None else json.dumps(value, ensure_ascii=False) for value in values])


def rows_in_memory(rows: Iterable[Row]) -> ArrowSequence[Row]:
    """Rows that need no file."""
    return ArrowSequence(ArrowStorage(pa.Table.from_batches([encode_rows(list(rows))]), decode_rows))


def blocks_of(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows in lists that make one record batch each."""
    remaining = iter(rows)
    while block := list(islice(remaining, ROWS_PER_BATCH)):
        yield block


def datasets_of(rows: Sequence[Row]) -> list[str]:
    """The data set of every row, read as a column where rows are stored in columns."""
    return rows.column("dataset").to_pylist() if isinstance(rows, ArrowSequence) else [row.dataset for row in rows]
