"""What a notebook gives as model, pool and target, as overrides of the configuration."""

import glob
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset

from lessexp.data.extra_columns import as_json
from lessexp.data.given_rows import given_records
from lessexp.data.row_paths import ROW_FILES, kind_of
from lessexp.data.rows import checked_rows, write_records, write_rows
from lessexp.data.target import EmptyTargetError
from lessexp.files import user_path
from lessexp.models.source import HUB_NAME
from lessexp.stages.composition import options, quoted
from lessexp.stages.configuration import ExperimentError

_GROUPS = {"pool": "data", "target": "target"}


def option_override(group: str, name: str) -> str:
    """An option of a group.

    Raises:
        ExperimentError: there is no such option; those that exist are listed.
    """
    if name not in options(group):
        raise ExperimentError(f"{group}='{name}' does not exist; give one of {', '.join(options(group))}")
    return f"{group}={name}"


def model_overrides(model: str | os.PathLike) -> list[str]:
    """The model.

    Args:
        model: an option of ``conf/model``, a local Hugging Face model folder, or the name of a model on the hub.

    Raises:
        ExperimentError: it is none of these.
    """
    if isinstance(model, str) and model in options("model"):
        return [f"model={model}"]
    if user_path(model).is_dir():
        return ["model=hf", f"model.path={quoted(_absolute(model))}"]
    if isinstance(model, str) and HUB_NAME.fullmatch(model):
        return ["model=hf", f"model.source.repo_id={quoted(model)}"]
    raise ExperimentError(
        f"model='{os.fspath(model)}' is neither one of {', '.join(options('model'))}, nor a local folder, "
        "nor the name of a model on the hub (owner/name)"
    )


def rows_overrides(argument: str, given: Any, file: Path) -> list[str]:
    """Pool or target.

    Args:
        argument: ``pool`` or ``target``.
        given: an option of the group, a file, a folder, a pattern, several of these, or rows in memory.
        file: where `write_given_rows` will write rows that are in memory.

    Raises:
        ExperimentError: it is none of these, or holds no row.
    """
    group = _GROUPS[argument]
    if isinstance(given, str) and given in options(group):
        return [f"{group}={given}"]
    if is_in_memory(given):
        _require_rows(argument, given)
        paths = [file]
    else:
        paths = _files(argument, given)
    names = [quoted(_absolute(path)) for path in paths]
    listed = f"[{','.join(names)}]"
    if argument == "pool":
        return ["data=jsonl", f"data.paths={listed}"]
    return ["target=jsonl", f"target.path={names[0] if len(names) == 1 else listed}"]


def is_in_memory(given: Any) -> bool:
    """Whether rows are given as such and not by the name of an option or of files."""
    if isinstance(given, Dataset):
        return True
    is_list = isinstance(given, Sequence) and not isinstance(given, str)
    return is_list and not (given and all(isinstance(item, str | os.PathLike) for item in given))


def write_given_rows(
    argument: str, given: Sequence[Mapping[str, Any]] | Dataset, file: Path, *, keeps_bad_rows: bool = False
) -> None:
    """Write rows that are in memory as a file in the row format.

    Args:
        argument: ``pool`` or ``target``.
        given: the rows.
        file: its place.
        keeps_bad_rows: write rows that break the format as they are, a line each, for the reader to leave out.

    Raises:
        RowError: a row breaks the format, or an id occurs twice; it is named by its place, e.g. ``pool[3]``.
    """
    if keeps_bad_rows:
        write_records(file, (as_json(record) for _, record in given_records(given, name=argument)))
        return
    remedy = '; overrides=["data.on_bad_row=skip"] leaves such rows out' if argument == "pool" else ""
    records = partial(given_records, given, name=argument)
    write_rows(file, checked_rows(records, is_target=argument == "target", remedy=remedy))


def _require_rows(argument: str, given: Sequence[Any] | Dataset) -> None:
    if len(given) == 0:
        if argument == "target":
            raise EmptyTargetError("target holds no row; give at least one example of the wanted skill")
        raise ExperimentError(f"{argument} holds no row; give the rows to choose from")


def _files(argument: str, given: Any) -> list[str | os.PathLike]:
    paths = [given] if isinstance(given, str | os.PathLike) else given
    group = _GROUPS[argument]
    if not isinstance(paths, Sequence):
        raise ExperimentError(
            f"{argument} is a {type(given).__name__}; give files, a list of rows, a datasets.Dataset (one split), "
            f"or one of {', '.join(options(group))}"
        )
    for path in paths:
        is_file = kind_of(Path(path)) in ROW_FILES or glob.has_magic(str(path)) or user_path(path).exists()
        if isinstance(path, str) and not is_file:
            raise ExperimentError(
                f"{argument}='{path}' is neither a file ({', '.join(ROW_FILES)}), nor a folder, nor one of "
                f"{', '.join(options(group))}"
            )
    return list(paths)


def _absolute(path: str | os.PathLike) -> str:
    return str(user_path(path).absolute())
