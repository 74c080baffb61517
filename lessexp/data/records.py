"""Records of evaluation data: a local file of JSON lines, or a data set of the Hugging Face hub."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lessexp.data.messages import check_text
from lessexp.data.pool import DataUnavailableError
from lessexp.data.record_files import RowError, json_records
from lessexp.data.row_paths import check_regular

Located = tuple[str, dict[str, Any]]
"""A record and where it stands, for messages."""


def local_records(path: str | Path) -> Iterator[Located]:
    """The objects of a file of JSON lines, each with its file and line.

    Raises:
        MissingFileError: no such file.
        RowError: a line is no JSON object.
    """
    path = Path(path).expanduser()
    check_regular(path, missing="no such file of evaluation data")
    for where, record in json_records(path):
        if not isinstance(record, dict):
            raise RowError(f"{where}: a question must be a JSON object")
        yield where, record


def hub_records(repo_id: str, name: str | None, split: str) -> Iterator[Located]:
    """The rows of one configuration and split of a data set on the hub.

    Raises:
        DataUnavailableError: it cannot be fetched.
    """
    import datasets  # takes seconds to import, and local files do not need it

    try:
        loaded = datasets.load_dataset(repo_id, name, split=split)
    # Offline, refused and missing all arrive as different classes of three libraries.
    except Exception as error:
        raise DataUnavailableError(
            f"could not fetch '{repo_id}' from the Hugging Face hub ({type(error).__name__}); "
            "set target.path and benchmark.path to local files of its dev and test questions"
        ) from error
    for number, record in enumerate(loaded, start=1):
        yield f"{repo_id} {split}, row {number}", dict(record)


def text_field(record: Mapping[str, Any], name: str, where: str) -> str:
    """A field that must be a string with something in it, see `lessexp.data.messages.check_text`.

    Raises:
        RowError: it is not.
    """
    value = record.get(name)
    if not isinstance(value, str) or not value.strip():
        raise RowError(f"{where}: '{name}' must be a non-empty string, got {value!r:.80}")
    check_text(value, f"'{name}'", where)
    return value
