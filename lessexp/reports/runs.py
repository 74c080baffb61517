"""Finished runs of sweeps, from their folders or from a file that keeps them."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lessexp.errors import UserError
from lessexp.files import write_json
from lessexp.reports.results import RESULTS_FILE, overrides_of, read_results

# Runs that differ in these alone are of one setting. A sweep's size stands for the settings that it brings.
_NO_SETTINGS = {
    "seed",
    "size",
    "resume",
    "device",
    "trainer",
    "trainer.processes",
    "logger",
    "artifacts_dir",
    "cache_dir",
}


class SweepError(UserError, ValueError):
    """Runs that make no table together; the message names a folder."""


@dataclass(frozen=True)
class SweepRun:
    """One finished run.

    Attributes:
        overrides: what its command set, by key, without the seed, the places of shared files and the logger.
        results: of ``results.json``.
        place: where it was read, for messages.
    """

    overrides: dict[str, str]
    results: dict[str, Any]
    place: str = field(default="", compare=False)


def read_sweep(places: Sequence[Path], *, drop_unfinished: bool = False) -> list[SweepRun]:
    """All runs of the places, in the order of their job numbers.

    Args:
        places: folders that hold runs at any depth, and files of `write_runs`.
        drop_unfinished: leave out runs that did not finish, which are an error otherwise.

    Raises:
        SweepError: a folder without runs, a run that did not finish, which is named, or a file of another kind.
    """
    runs = []
    for place in places:
        runs += _runs_in_file(place) if place.is_file() else _runs_below(place, drop_unfinished)
    return runs


def unfinished_runs(places: Sequence[Path]) -> list[Path]:
    """Folders of runs that started and have no ``results.json``."""
    started = [run for place in places if place.is_dir() for run in _started_below(place)]
    return [run for run in started if not (run / RESULTS_FILE).is_file()]


def write_runs(path: Path, runs: Sequence[SweepRun]) -> None:
    """Keep what the table needs of many runs in one file, to be joined with others later."""
    write_json(path, {"runs": [{"overrides": run.overrides, "results": run.results} for run in runs]})


def _runs_in_file(file: Path) -> list[SweepRun]:
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))["runs"]
        return [
            SweepRun(_settings_among(run["overrides"]), run["results"], f"run {number} of {file}")
            for number, run in enumerate(kept, start=1)
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SweepError(f"{file} holds no runs; give a folder of runs, or a file that --json wrote") from error


def _runs_below(folder: Path, drop_unfinished: bool) -> list[SweepRun]:
    started = _started_below(folder)
    if not started:
        raise SweepError(f"{folder} holds no run; give the folder that `python run.py -m` printed its jobs into")
    unfinished = unfinished_runs([folder])
    if unfinished and (not drop_unfinished or len(unfinished) == len(started)):
        raise SweepError(
            f"{len(unfinished)} of {len(started)} runs in {folder} did not finish, the first is {unfinished[0]}; "
            "run their command again, delete their folders, or leave them out with --drop-unfinished"
        )
    finished = [run for run in started if run not in unfinished]
    return [SweepRun(_settings_among(overrides_of(run)), read_results(run), str(run)) for run in finished]


def _started_below(folder: Path) -> list[Path]:
    return sorted((hydra.parent for hydra in folder.rglob(".hydra")), key=_job_order)


def _job_order(run: Path) -> tuple[str, list[tuple[str, float]]]:
    """By name, numbers in it by value: ``proj_dim=512`` before ``proj_dim=1024``."""
    pieces = re.findall(r"(\D*)(\d+(?:\.\d+)?)?", run.name)
    return str(run.parent), [(text, float(number or -1)) for text, number in pieces]


def _settings_among(overrides: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in overrides.items() if key not in _NO_SETTINGS}
