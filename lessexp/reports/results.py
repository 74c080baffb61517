"""``results.json``: everything a run found out and what it cost, from the files its stages wrote."""

import importlib.metadata
import json
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from lessexp.data.arrow_rows import datasets_of
from lessexp.data.rows import Row
from lessexp.files import write_json

RESULTS_FILE = "results.json"
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


def overrides_of(run_folder: Path) -> dict[str, str]:
    """What the command of a run set, by key, from the file that Hydra wrote; empty outside a Hydra run."""
    file = run_folder / ".hydra" / "overrides.yaml"
    written = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else []
    return {key.lstrip("+~"): value for key, _, value in (override.partition("=") for override in written)}


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
        FileNotFoundError: the run did not finish.
    """
    path = run_folder / RESULTS_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file, so the run did not reach its report")
    return json.loads(path.read_text(encoding="utf-8"))
