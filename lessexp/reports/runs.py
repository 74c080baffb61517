"""Finished runs of sweeps, from their folders or from a file that keeps them."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lessexp.errors import DamagedFileError, MissingFileError, UserError
from lessexp.files import write_json
from lessexp.reports.results import RESULTS_FILE, by_key, read_results, written_in

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
_OF_A_FOLDER = ("settings", "overrides", "files")  # results that tell of a run's folder


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
    """All runs of the places, in the order of their job numbers; `damaged_runs` are left out.

    Args:
        places: folders that hold runs at any depth, and files of `write_runs`.
        drop_unfinished: leave out runs that did not finish, which are an error otherwise.

    Raises:
        SweepError: a folder without runs that can be read, a run that did not finish, which is named, or a file of
            another kind.
    """
    runs = []
    for place in places:
        runs += _runs_in_file(place) if place.is_file() else _runs_below(place, drop_unfinished)
    return runs


def unfinished_runs(places: Sequence[Path]) -> list[Path]:
    """Folders of runs that started and have no ``results.json``."""
    started = [run for place in places if place.is_dir() for run in _started_below(place)]
    return [run for run in started if not (run / RESULTS_FILE).is_file()]


def damaged_runs(places: Sequence[Path]) -> dict[Path, str]:
    """Folders of runs whose ``results.json`` cannot be read, and why."""
    damaged = {}
    for run in (run for place in places if place.is_dir() for run in _started_below(place)):
        try:
            read_results(run)
        except MissingFileError:
            continue
        except DamagedFileError as error:
            damaged[run] = str(error)
    return damaged


def write_runs(path: Path, runs: Sequence[SweepRun]) -> None:
    """Keep what the table needs of many runs in one file, to be joined with others later."""
    kept = [{name: value for name, value in run.results.items() if name not in _OF_A_FOLDER} for run in runs]
    lines = [{"overrides": run.overrides, "results": results} for run, results in zip(runs, kept, strict=True)]
    write_json(path, {"runs": lines})


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
    damaged = damaged_runs([folder])
    finished = [run for run in started if run not in unfinished and run not in damaged]
    if not finished:
        raise SweepError(next(iter(damaged.values())))
    return [_read(run) for run in finished]


def _read(folder: Path) -> SweepRun:
    results = read_results(folder)
    overrides, _ = written_in(folder, results) or ([], {})
    return SweepRun(_settings_among(by_key(overrides)), results, str(folder))


def _started_below(folder: Path) -> list[Path]:
    return sorted((hydra.parent for hydra in folder.rglob(".hydra")), key=_job_order)


def _job_order(run: Path) -> tuple[str, list[tuple[str, float]]]:
    """By name, numbers in it by value: ``proj_dim=512`` before ``proj_dim=1024``."""
    pieces = re.findall(r"(\D*)(\d+(?:\.\d+)?)?", run.name)
    return str(run.parent), [(text, float(number or -1)) for text, number in pieces]


def _settings_among(overrides: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in overrides.items() if key not in _NO_SETTINGS}
