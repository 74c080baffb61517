"""What a gradient store holds and from what it was made, as its ``manifest.json`` says."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lessexp.errors import DamagedFileError, UserError
from lessexp.files import read_json

FORMAT_VERSION = 4
_LARGEST = 2**31 - 1  # of any number in a manifest; beyond it lies no store, but sizes that overflow


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
        checkpoint_hashes: of each checkpoint's adapter, moments and state of Adam, by epoch.
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


def _is_text(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(value.encode() or True)
    except UnicodeEncodeError:  # half of a surrogate pair, which no file and no terminal takes
        return False


def _is_number(value: Any, *, least: int) -> bool:
    return type(value) is int and least <= value <= _LARGEST


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _are_checkpoints(value: Any) -> bool:
    if not isinstance(value, list) or not all(_is_number(one, least=0) for one in value):
        return False
    return len(set(value)) == len(value)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_text(key) and _is_text(one) for key, one in value.items())


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "example_ids": ("a list of texts", _are_texts),
    "checkpoints": ("a list of different whole numbers", _are_checkpoints),
    "proj_dim": ("a whole number above 0", lambda value: _is_number(value, least=1)),
    "dtype": ("a text", _is_text),
    "rows_per_shard": ("a whole number above 0", lambda value: _is_number(value, least=1)),
    "provenance": ("an object", lambda value: isinstance(value, dict)),
    "checkpoint_hashes": ("an object of texts", _is_table),
    "row_hashes": ("a list of texts", _are_texts),
    "subtasks": ("null or a list of texts", lambda value: value is None or _are_texts(value)),
    "excluded": ("an object of texts", _is_table),
    "sha256": ("an object of texts", _is_table),
    "format_version": ("a whole number", lambda value: _is_number(value, least=0)),
}


def read_manifest(path: Path, *, dtypes: Sequence[str]) -> Manifest:
    """Read a manifest, trusting nothing in it.

    Args:
        path: of the file.
        dtypes: those that a store may have.

    Raises:
        MissingFileError: there is no such file.
        DatastoreError: naming the file and the field that is missing, unknown or of another kind.
    """
    try:
        record = read_json(path)
    except DamagedFileError as error:
        raise DatastoreError(str(error)) from error
    version = record.get("format_version")
    if version != FORMAT_VERSION:
        raise DatastoreError(f"{path.parent}: format_version is {_brief(version)}, this program reads {FORMAT_VERSION}")
    named = {one.name for one in fields(Manifest)}
    if strange := named ^ record.keys():
        what = "lacks" if min(strange) in named else "has an unknown"
        raise DatastoreError(f"{path}: {what} field {min(strange)!r:.80}; build the store again")
    for name, (kind, is_right) in _KINDS.items():
        if not is_right(record[name]):
            raise DatastoreError(f"{path}: '{name}' must be {kind}, it is {_brief(record[name])}")
    if record["dtype"] not in dtypes:
        raise DatastoreError(f"{path}: 'dtype' must be one of {', '.join(dtypes)}, it is {_brief(record['dtype'])}")
    n_rows = len(record["example_ids"])
    for name in ("row_hashes", "subtasks"):
        if record[name] and len(record[name]) != n_rows:
            raise DatastoreError(f"{path}: '{name}' has {len(record[name])} entries for {n_rows} rows")
    return Manifest(**record)


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
