"""Any Hugging Face data set as a pool: of the hub, of a local folder in the same layout, or of local files."""

import glob
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessexp.data.columns import ColumnMapping, cell
from lessexp.data.dataset_records import dataset_records
from lessexp.data.pool import DataUnavailableError
from lessexp.data.record_files import TABLES, Place, RowError, table_head
from lessexp.data.row_paths import files_named, kind_of, stem_of
from lessexp.data.source import ExpectedCounts, Paths, one_of_both, skips_bad_rows
from lessexp.errors import UserError
from lessexp.files import sha256_of, sha256_of_all

if TYPE_CHECKING:
    from datasets import Dataset

_LOADERS = {  # of datasets, by what a file holds
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "json"),
    **dict.fromkeys(TABLES, "csv"),
    ".parquet": "parquet",
}


class DatasetSettingsError(UserError, ValueError):
    """A split or configuration that a data set does not have."""


@dataclass(frozen=True)
class HubRows:
    """Rows of a data set, read through a column mapping.

    Attributes:
        dataset: the split, memory-mapped.
        content: hashes of what was loaded: of local files, or of the hub's data as ``datasets`` keeps them.
        path: names the data set in errors.
        split: its name.
        columns: makes messages of a record.
        id_column: of the ids; None numbers the rows.
        dataset_name: what a row's data set is called, and how its number becomes an id.
        dataset_column: gives each row its data set's name; None takes ``dataset_name``.
        counts: see `lessexp.data.source.RowSource`.
        skips_bad_rows: see `lessexp.data.source.RowSource`.
    """

    dataset: "Dataset"
    content: Sequence[str]
    path: str
    split: str
    columns: ColumnMapping
    id_column: str | None
    dataset_name: str
    dataset_column: str | None
    counts: ExpectedCounts | None = None
    skips_bad_rows: bool = False

    def identity(self) -> dict[str, Any]:
        """The content of the data set, and how it is read."""
        return {
            "content": list(self.content),
            "split": self.split,
            "columns": _described(self.columns),
            "names": [self.id_column, self.dataset_name, self.dataset_column],
            **({"path": self.path} if self.skips_bad_rows else {}),
        }

    def records(self) -> Iterator[tuple[str, Any]]:
        """Records in the row format; an error names data set, split, row (the first is 0) and column."""
        for number, record in enumerate(dataset_records(self.dataset)):
            text = f"data set '{self.path}', split '{self.split}', row {number}"
            where = Place(text, file=self.path, line=number)
            try:
                yield where, self._row(record, number, where)
            except RowError as error:
                yield where, error

    def _row(self, record: Mapping[str, Any], number: int, where: str) -> dict[str, Any]:
        name, example_id = self.dataset_name, f"{self.dataset_name}-{self.split}-{number}"
        if self.dataset_column is not None:
            name = _name(record, self.dataset_column, where)
        if self.id_column is not None:
            example_id = _name(record, self.id_column, where)
        names = {"dataset": name, "id": example_id}
        return {**record, **names, "messages": self.columns(record, where=where)}


def _name(record: Mapping[str, Any], column: str, where: str) -> str:
    value = cell(record, column, where=where)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise RowError(f"{where}, column '{column}': must be a non-empty string or a whole number, it is {value!r:.80}")
    return str(value)


def _described(columns: ColumnMapping) -> list[Any]:
    function, settings = (columns.func, columns.keywords) if isinstance(columns, partial) else (columns, {})
    return [f"{function.__module__}.{function.__qualname__}", dict(settings)]


def hf_pool(
    path: Paths | None,
    *,
    paths: Paths | None,
    config: str | None,
    split: str,
    revision: str | None,
    columns: ColumnMapping,
    id_column: str | None,
    dataset: str | None,
    dataset_column: str | None,
    counts: ExpectedCounts | None,
    on_bad_row: str,
) -> HubRows:
    """Rows of one split of a data set; its columns are carried along.

    Args:
        path: its name on the hub, a local folder in the same layout, a folder of ``Dataset.save_to_disk``, or local
            files of one kind or a pattern of them.
        paths: another name of ``path``.
        config: which of its configurations (subsets); None where it has but one.
        split: e.g. ``train``, or a part of it such as ``train[:10%]``.
        revision: branch, tag or commit on the hub; None takes the default branch.
        columns: makes messages of a record, see `lessexp.data.columns`.
        id_column: of the ids; None makes them: ``<data set>-<split>-<row>``.
        dataset: what the rows' data set is called; None takes the last part of ``path``.
        dataset_column: gives each row its data set's name instead.
        counts: see `lessexp.data.source.RowSource`.
        on_bad_row: see `lessexp.data.source.skips_bad_rows`.

    Raises:
        DataUnavailableError: the hub cannot be reached, or the folder holds no data set.
        DatasetSettingsError: there is no such split or configuration, or the files are of several kinds.
        MissingFileError: no such file, or one that cannot be read.
        SourceSettingsError: no path is given.
    """
    skips = skips_bad_rows(on_bad_row)
    several = one_of_both(path, paths)
    shown, place = ", ".join(several), Path(several[0]).expanduser().absolute()
    name = place.name
    if len(several) > 1 or glob.has_magic(shown) or (os.path.lexists(place) and not place.is_dir()):
        files = files_named(several, key="data.path")
        name = stem_of(files[0]) if len(files) == 1 else files[0].absolute().parent.name
        loaded = _loaded(shown, lambda: _from_files(files, split))
    else:
        loaded = _loaded(shown, lambda: _from_hub_or_folder(several[0], config, split, revision))
    return HubRows(*loaded, shown, split, columns, id_column, dataset or name, dataset_column, counts, skips)


_Loaded = tuple["Dataset", Sequence[str]]
"""The split, and hashes of its content."""


def _from_files(files: Sequence[Path], split: str) -> _Loaded:
    import datasets  # takes seconds to import, and other pools do not need it

    kinds = sorted({kind_of(file) for file in files})
    if len({_LOADERS.get(kind, kind) for kind in kinds}) > 1 or kinds[0] not in _LOADERS:
        raise DatasetSettingsError(
            f"data.path names files of the kinds {', '.join(kinds)}; give files of one kind of {', '.join(_LOADERS)}"
        )
    loader, settings = _LOADERS[kinds[0]], {}
    if loader == "csv":  # text stays text: 007, 1.50 and None are answers
        delimiter, columns = table_head(files[0])
        features = datasets.Features(dict.fromkeys(columns, datasets.Value("string")))
        settings = {"sep": delimiter, "features": features, "na_filter": False}
    content = [*kinds, sha256_of_all(files)]
    data_files = [str(file.absolute()) for file in files]
    return datasets.load_dataset(
        loader, data_files=data_files, split=split, cache_dir=_cache_of(content), **settings
    ), content


def _from_hub_or_folder(path: str, config: str | None, split: str, revision: str | None) -> _Loaded:
    import datasets

    folder = Path(path).expanduser()
    if any((folder / file).is_file() for file in ("state.json", "dataset_dict.json")):
        saved = _saved_split(datasets.load_from_disk(folder), path, split)
        return saved, _hashes_of_arrow_files(saved)
    if folder.exists():
        content = _content_of(folder, config)
        return datasets.load_dataset(str(folder), config, split=split, cache_dir=_cache_of(content)), content
    loaded = datasets.load_dataset(path, config, split=split, revision=revision)
    # Two splits may be parts of the same files.
    return loaded, [*_hashes_of_arrow_files(loaded), loaded._fingerprint]


def _hashes_of_arrow_files(dataset: "Dataset") -> list[str]:
    return [sha256_of(Path(file["filename"])) for file in dataset.cache_files]


def _content_of(folder: Path, config: str | None) -> list[str]:
    """Hashes of the files of a configuration by split, and of those that say how to read them."""
    import datasets

    builder = datasets.load_dataset_builder(str(folder), config)
    notes = [folder / name for name in ("README.md", ".huggingface.yaml", "dataset_infos.json")]
    content = [builder.config.name, sha256_of_all(file for file in notes if file.is_file())]
    for split, files in (builder.config.data_files or {}).items():
        # Of addresses the library asks whether they have changed; of files it looks at the time alone.
        addresses = [file for file in files if "://" in file]
        content += [str(split), *addresses, sha256_of_all(Path(file) for file in files if file not in addresses)]
    return content


def _cache_of(content: Sequence[str]) -> str:
    """Where ``datasets`` keeps what it makes of such content; in its own place, files of the same time are the same."""
    import datasets

    name = hashlib.sha256("\n".join(content).encode()).hexdigest()[:32]
    return str(Path(datasets.config.HF_DATASETS_CACHE) / "by_content" / name)


def _loaded(path: str, load: Callable[[], _Loaded]) -> _Loaded:
    try:
        return load()
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
            "set data.path to a name on the Hugging Face hub or to a local folder or file that can be read"
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
