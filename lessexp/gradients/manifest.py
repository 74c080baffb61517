"""What a gradient store holds and from what it was made, as its ``manifest.json`` says."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lessexp.errors import UserError

FORMAT_VERSION = 3


class DatastoreError(UserError, RuntimeError):
    """A store that is unfinished, damaged or built under other settings."""


@dataclass(frozen=True)
class Manifest:
    """What a store holds.

    Attributes:
        example_ids: in row order.
        checkpoints: warm-up epochs, one set of rows each.
        proj_dim: width of a row.
        dtype: of the stored values, a name in `lessexp.gradients.codecs.CODECS`.
        rows_per_shard: rows in every shard but the last.
        provenance: all that determines the rows; a store opens only under the same.
        checkpoint_hashes: of each checkpoint's adapter and moments, by epoch.
        row_hashes: of what the model read of each row; rows of equal hash have equal features.
        subtasks: of each row, for target stores.
        excluded: reason by example id, for rows without a direction.
        sha256: hash of each shard's file by its path within the store.
        format_version: of the layout on disk.
    """

    example_ids: list[str]
    checkpoints: list[int]
    proj_dim: int
    dtype: str
    rows_per_shard: int
    provenance: dict[str, Any]
    checkpoint_hashes: dict[str, str] = field(default_factory=dict)
    row_hashes: list[str] = field(default_factory=list)
    subtasks: list[str] | None = None
    excluded: dict[str, str] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    @property
    def n_shards(self) -> int:
        """Shards of one checkpoint."""
        return math.ceil(len(self.example_ids) / self.rows_per_shard)

    def shard_rows(self, shard: int) -> range:
        """Positions of the rows that a shard holds."""
        start = shard * self.rows_per_shard
        return range(start, min(start + self.rows_per_shard, len(self.example_ids)))

    def of_shard(self, shard: int, items: Sequence[Any]) -> list[Any]:
        """The items (one for each row of the store) that belong to a shard."""
        held = self.shard_rows(shard)
        return list(items[held.start : held.stop])


def check_same(root: Path, *, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Compare two records of the store in ``root``.

    Raises:
        DatastoreError: naming the first field that differs, with both values.
    """
    for key in sorted(found.keys() | wanted.keys()):
        if found.get(key) != wanted.get(key):
            raise DatastoreError(
                f"{root}: '{key}' is {_brief(found.get(key))} in the store, {_brief(wanted.get(key))} was asked for"
            )


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:100]}…"
