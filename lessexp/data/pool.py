"""Where the rows to choose from come from. Loaders of files name their source, and read nothing yet."""

from pathlib import Path

import torch
from huggingface_hub import snapshot_download

from lessexp.data.arrow_sequence import ArrowSequence
from lessexp.data.row_paths import files_named
from lessexp.data.rows import Row
from lessexp.data.seeds import generator_for, uniform_of
from lessexp.data.source import ExpectedCounts, Paths, RowFiles, one_of_both, skips_bad_rows
from lessexp.errors import MissingFileError, UserError

LESS_SOURCES = ("flan_v2", "cot", "dolly", "oasst1")


class DataUnavailableError(UserError, RuntimeError):
    """Data that could not be fetched; the message says which key takes a local path."""


def jsonl_pool(path: Paths | None, *, paths: Paths | None, counts: ExpectedCounts | None, on_bad_row: str) -> RowFiles:
    """Rows of anybody's files.

    Args:
        path: files, folders or patterns, see `lessexp.data.row_paths.files_named`.
        paths: another name of ``path``.
        counts: see `lessexp.data.source.RowSource`.
        on_bad_row: see `lessexp.data.source.skips_bad_rows`.

    Raises:
        MissingFileError: a path names no file, or one that cannot be read.
        SourceSettingsError: no path is given.
    """
    files = files_named(one_of_both(path, paths), key="data.path")
    return RowFiles(files, counts, skips_bad_rows(on_bad_row))


def less_pool(path: str | None, repo_id: str, *, counts: ExpectedCounts | None, on_bad_row: str) -> RowFiles:
    """The paper's pool: FLAN V2, CoT, Dolly and OASST1, in this order.

    Args:
        path: local folder that holds ``<source>_data.jsonl`` or ``<source>.jsonl`` for each
            source, at any depth; ``None`` fetches ``repo_id`` from the Hugging Face hub.
        repo_id: the hub's name of the data set.
        counts: rows by source; see `lessexp.data.source.RowSource`.
        on_bad_row: see `lessexp.data.source.skips_bad_rows`.

    Raises:
        DataUnavailableError: the hub cannot be reached.
        MissingFileError: a source has no file, or more than one.
    """
    folder = Path(path).expanduser() if path else _download(repo_id)
    files = []
    for source in LESS_SOURCES:
        names = {f"{source}_data.jsonl", f"{source}.jsonl"}
        found = sorted(file for file in folder.rglob("*.jsonl") if file.name in names)
        if len(found) != 1:
            raise MissingFileError(
                f"{folder}: expected one file named {' or '.join(sorted(names))}, found {len(found)}; "
                "set data.path to the folder of the processed files"
            )
        files += found
    return RowFiles(files, counts, skips_bad_rows(on_bad_row))


def sampled(rows: ArrowSequence[Row], *, n_rows: int | None, seed: int) -> ArrowSequence[Row]:
    """Rows drawn at random, in the order of the pool; which ones depends on their ids and the seed alone.

    Args:
        rows: the whole pool.
        n_rows: how many; ``None``, or more than there are: all.
        seed: of the draw.
    """
    if n_rows is None or n_rows >= len(rows):
        return rows
    drawn = uniform_of(seed, "part of the pool", rows.ids).argsort(stable=True)[:n_rows]
    return rows.select(drawn.sort().values.numpy())


def drawn(rows: ArrowSequence, *, n_rows: int, seed: int, purpose: str) -> ArrowSequence:
    """A random part of the rows in random order, or all of them where there are fewer."""
    order = torch.randperm(len(rows), generator=generator_for(seed, purpose)).tolist()
    return rows.select(order[:n_rows])


def _download(repo_id: str) -> Path:
    try:
        return Path(snapshot_download(repo_id, repo_type="dataset", allow_patterns=["*.jsonl"]))
    # Offline, refused and missing all arrive as different classes of two HTTP libraries.
    except Exception as error:
        raise DataUnavailableError(
            f"could not fetch the data set '{repo_id}' from the Hugging Face hub "
            f"({type(error).__name__}); set data.path to a local folder that holds its files"
        ) from error
