"""Any Hugging Face data set as a pool: of the hub, or a local folder in the same layout."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessexp.data.columns import ColumnMapping, cell
from lessexp.data.pool import DataUnavailableError
from lessexp.data.rows import RowError
from lessexp.data.source import ExpectedCounts
from lessexp.errors import UserError
from lessexp.files import sha256_of

if TYPE_CHECKING:
    from datasets import Dataset

_ROWS_AT_ONCE = 1024  # decoded to Python objects; some MB


class DatasetSettingsError(UserError, ValueError):
    """A split or configuration that a data set does not have."""


@dataclass(frozen=True)
class HubRows:
    """Rows of a data set, read through a column mapping.

    Attributes:
        dataset: the split, memory-mapped.
        path: names the data set in errors.
        split: its name.
        columns: makes messages of a record.
        id_column: of the ids; None numbers the rows.
        dataset_name: what a row's data set is called, and how its number becomes an id.
        dataset_column: gives each row its data set's name; None takes ``dataset_name``.
        counts: see `lessexp.data.source.RowSource`.
    """

    dataset: "Dataset"
    path: str
    split: str
    columns: ColumnMapping
    id_column: str | None
    dataset_name: str
    dataset_column: str | None
    counts: ExpectedCounts | None = None

    def identity(self) -> dict[str, Any]:
        """The content of the data set's files, and how they are read."""
        return {
            "files": [sha256_of(Path(file["filename"])) for file in self.dataset.cache_files],
            # Two splits may be parts of the same files.
            "fingerprint": self.dataset._fingerprint,
            "split": self.split,
            "columns": _described(self.columns),
            "names": [self.id_column, self.dataset_name, self.dataset_column],
        }

    def records(self) -> Iterator[tuple[str, Any]]:
        """Records in the row format; an error names data set, split, row (the first is 0) and column."""
        number = 0
        # As Arrow holds them: nothing but text is decoded, neither images nor sound.
        for table in self.dataset.with_format("arrow").iter(_ROWS_AT_ONCE):
            for record in table.to_pylist():
                where = f"data set '{self.path}', split '{self.split}', row {number}"
                yield where, self._row(record, number, where)
                number += 1

    def _row(self, record: Mapping[str, Any], number: int, where: str) -> dict[str, Any]:
        name, example_id = self.dataset_name, f"{self.dataset_name}-{self.split}-{number}"
        if self.dataset_column is not None:
            name = _name(record, self.dataset_column, where)
        if self.id_column is not None:
            example_id = _name(record, self.id_column, where)
        return {"dataset": name, "id": example_id, "messages": self.columns(record, where=where)}


def _name(record: Mapping[str, Any], column: str, where: str) -> str:
    value = cell(record, column, where=where)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise RowError(f"{where}, column '{column}': must be a non-empty string or a whole number, it is {value!r:.80}")
    return str(value)


def _described(columns: ColumnMapping) -> list[Any]:
    function, settings = (columns.func, columns.keywords) if isinstance(columns, partial) else (columns, {})
    return [f"{function.__module__}.{function.__qualname__}", dict(settings)]


def hf_pool(
    path: str,
    *,
    config: str | None,
    split: str,
    revision: str | None,
    columns: ColumnMapping,
    id_column: str | None,
    dataset: str | None,
    dataset_column: str | None,
    counts: ExpectedCounts | None,
) -> HubRows:
    """Rows of one split of a data set.

    Args:
        path: its name on the hub, a local folder in the same layout, or a folder of ``Dataset.save_to_disk``.
        config: which of its configurations (subsets); None where it has but one.
        split: e.g. ``train``, or a part of it such as ``train[:10%]``.
        revision: branch, tag or commit on the hub; None takes the default branch.
        columns: makes messages of a record, see `lessexp.data.columns`.
        id_column: of the ids; None makes them: ``<data set>-<split>-<row>``.
        dataset: what the rows' data set is called; None takes the last part of ``path``.
        dataset_column: gives each row its data set's name instead.
        counts: see `lessexp.data.source.RowSource`.

    Raises:
        DataUnavailableError: the hub cannot be reached, or the folder holds no data set.
        DatasetSettingsError: there is no such split or configuration.
    """
    name = dataset or Path(path).expanduser().absolute().name
    loaded = _load(path, config=config, split=split, revision=revision)
    return HubRows(loaded, path, split, columns, id_column, name, dataset_column, counts)


def _load(path: str, *, config: str | None, split: str, revision: str | None) -> "Dataset":
    import datasets  # takes seconds to import, and other pools do not need it

    folder = Path(path).expanduser()
    try:
        if any((folder / file).is_file() for file in ("state.json", "dataset_dict.json")):
            return _saved_split(datasets.load_from_disk(folder), path, split)
        return datasets.load_dataset(str(folder) if folder.exists() else path, config, split=split, revision=revision)
    except UserError:
        raise
    except ValueError as error:
        raise DatasetSettingsError(
            f"data set '{path}': {_first_line(error)}; check data.config and data.split"
        ) from error
    # Offline, refused, missing and damaged all arrive as different classes of several libraries.
    except Exception as error:
        raise DataUnavailableError(
            f"could not load the data set '{path}' ({type(error).__name__}: {_first_line(error)}); "
            "set data.path to a name on the Hugging Face hub or to a local folder that holds its files"
        ) from error


def _saved_split(saved: Any, path: str, split: str) -> "Dataset":
    """The split of what ``save_to_disk`` wrote, which is one split or a dictionary of them."""
    import datasets

    if isinstance(saved, datasets.Dataset):
        if saved.split is not None and str(saved.split) != split:
            raise DatasetSettingsError(f"data set '{path}' is the split '{saved.split}'; set data.split={saved.split}")
        return saved
    if split not in saved:
        raise DatasetSettingsError(f"data set '{path}' has no split '{split}'; it has {', '.join(saved)} (data.split)")
    return saved[split]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
