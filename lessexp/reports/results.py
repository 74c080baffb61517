"""``results.json``: everything a run found out and what it cost, from the files its stages wrote."""

import importlib.metadata
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from lessexp.data.arrow_rows import datasets_of
from lessexp.data.rows import Row
from lessexp.errors import DamagedFileError, MissingFileError
from lessexp.files import read_json, write_json

RESULTS_FILE = "results.json"
_ALWAYS_THERE = ("selector", "model", "task", "seed", "metrics", "selection", "stages")
_PACKAGES = ("lessexp", "torch", "transformers", "peft", "pytorch-lightning", "datasets", "hydra-core")


def selection_summary(pool: Sequence[Row], selected: Sequence[Row], target: Sequence[Row]) -> dict[str, Any]:
    """Share of each data set in the pool and in the selection, and how many picks are of the target's kind.

    ``precision`` is the share of selected rows whose data set is one of the target's; it is ``None``
    where the pool holds none of them, for then the right rows are not known. ``pool_share`` is what
    random choice would reach.
    """
    wanted = {row.dataset for row in target}
    in_pool, in_selection = (Counter(datasets_of(rows)) for rows in (pool, selected))
    known = any(dataset in wanted for dataset in in_pool)

    def share(counts: Counter) -> float | None:
        return sum(counts[dataset] for dataset in wanted) / counts.total() if known else None

    return {
        "n_pool": len(pool),
        "n_selected": len(selected),
        "precision": share(in_selection),
        "pool_share": share(in_pool),
        "by_dataset": {
            dataset: {
                "wanted": dataset in wanted,
                "pool": in_pool[dataset] / len(pool),
                "selected": in_selection[dataset] / len(selected),
            }
            for dataset in sorted(in_pool)
        },
    }


def written_in(run_folder: Path, results: Mapping[str, Any]) -> tuple[Sequence[str], Mapping[str, Any]] | None:
    """Overrides and configuration of a run, as they were written; None if nothing tells of them.

    Args:
        run_folder: whose ``.hydra`` is read only of older runs, and of those that are not finished.
        results: of the run, as far as there are any.
    """
    if {"overrides", "settings"} <= results.keys():
        return results["overrides"], results["settings"]
    files = [run_folder / ".hydra" / f"{name}.yaml" for name in ("overrides", "config")]
    if not files[0].is_file():
        return None
    overrides, config = (yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {} for file in files)
    return overrides, config


def by_key(overrides: Sequence[str]) -> dict[str, str]:
    """What a command sets."""
    return {key.lstrip("+~"): value for key, _, value in (override.partition("=") for override in overrides)}


def package_versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def git_commit(folder: Path) -> str | None:
    """Commit of the code in ``folder``, with ``-dirty`` if files differ; ``None`` outside a checkout."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        described = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:  # no git on this machine
        return None
    return described.stdout.strip() if described.returncode == 0 else None


def device_name(device: str) -> str:
    """The graphics card behind a torch device, or the device as it is called."""
    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else device


def write_results(run_folder: Path, results: Mapping[str, Any]) -> None:
    """Write ``results.json``; it appears whole or not at all."""
    write_json(run_folder / RESULTS_FILE, results)


def read_results(run_folder: Path) -> dict[str, Any]:
    """Read what `write_results` wrote.

    Raises:
        MissingFileError: the run did not finish.
        DamagedFileError: the file does not hold a run's results.
    """
    path = run_folder / RESULTS_FILE
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file, so the run did not reach its report")
    advice = "copy it again, or delete it and run the command again"
    try:
        results = read_json(path)
    except DamagedFileError as error:
        raise DamagedFileError(f"{path} is damaged; {advice}") from error
    if lacking := [name for name in _ALWAYS_THERE if name not in results]:
        raise DamagedFileError(f"{path} holds no results of a run, for it lacks '{lacking[0]}'; {advice}")
    return results
