"""Rows that a notebook holds: dictionaries, or a ``datasets.Dataset``, in the row format.

Only ``messages`` must be there. A missing ``dataset`` is called after what the rows are for, and a missing ``id`` is
that name with the row's number.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lessexp.data.dataset_records import dataset_records
from lessexp.data.record_files import named

if TYPE_CHECKING:
    from datasets import Dataset


def given_records(rows: "Sequence[Mapping[str, Any]] | Dataset", *, name: str) -> Iterator[tuple[str, Any]]:
    """Records in the row format, not checked yet, each with the place that an error names.

    Args:
        rows: with ``messages`` and, where they have them, ``dataset``, ``id``, ``task`` and ``subtask``.
        name: what the rows are for, e.g. ``pool``.
    """
    records = rows if isinstance(rows, Sequence) else dataset_records(rows)
    for number, record in enumerate(records):
        yield f"{name}[{number}]", named(record, dataset=name, example_id=f"{name}-{number}")
