"""Rows that do not follow the format and are left out, if that is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from lessexp.data.record_files import Place, RowError

BAD_ROW_SCHEMA = pa.schema(
    [("example_id", pa.string()), ("reason", pa.string()), ("file", pa.string()), ("line", pa.int64())]
)


@dataclass(frozen=True)
class BadRow:
    """A row that does not follow the format.

    Attributes:
        example_id: if the row has one that can be read.
        where: names it in errors.
        reason: what is wrong with it.
    """

    example_id: str | None
    where: str
    reason: str


def bad_row_table(bad_rows: Sequence[BadRow]) -> pa.Table:
    """Bad rows as a table of `BAD_ROW_SCHEMA`; a row that is in no file has neither file nor line."""
    places = [bad.where if isinstance(bad.where, Place) else None for bad in bad_rows]
    columns = [
        [bad.example_id for bad in bad_rows],
        [bad.reason for bad in bad_rows],
        [place and place.file for place in places],
        [place and place.line for place in places],
    ]
    return pa.table(columns, schema=BAD_ROW_SCHEMA)


def refuse_if_all_are_bad(n_rows: int, bad_rows: pa.Table) -> None:
    """Check that something is left of a pool whose bad rows are left out.

    Args:
        n_rows: that can be read.
        bad_rows: the others, see `bad_row_table`.

    Raises:
        RowError: all rows are bad; the first is named.
    """
    if n_rows == 0 and len(bad_rows):
        first = bad_rows.slice(0, 1).to_pylist()[0]
        raise RowError(
            f"none of the pool's {len(bad_rows):,} rows can be read; "
            f"the first, {first['file']}, line {first['line']}: {first['reason']}"
        )
