"""Many runs in one table: what differs between them, and mean and standard deviation over seeds.

A figure of a setting is the mean over its seeds; ± is the sample standard deviation (n - 1 in the denominator), absent
where there is one seed.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table
from rich.text import Text

from lessexp.errors import UserError
from lessexp.files import write_json
from lessexp.reports.results import RESULTS_FILE, read_results
from lessexp.reports.tables import new_table

_NO_SETTINGS = {"seed", "artifacts_dir", "cache_dir"}  # runs that differ in these alone are of one setting


class SweepError(UserError, ValueError):
    """Runs that make no table together; the message names a folder."""


@dataclass(frozen=True)
class SweepRun:
    """One finished run.

    Attributes:
        overrides: what its command set, by key, without the seed and the places of shared files.
        results: of ``results.json``.
    """

    overrides: dict[str, str]
    results: dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """Runs that differ in their seed alone.

    Attributes:
        label: what sets them apart from the other settings.
        figures: values by name of the figure, one a seed.
    """

    label: str
    figures: dict[str, list[float]]


def read_sweep(places: Sequence[Path]) -> list[SweepRun]:
    """All runs of the places, in the order of their job numbers.

    Args:
        places: folders that hold runs at any depth, and files of `write_runs`.

    Raises:
        SweepError: a folder without runs, a run that did not finish, which is named, or a file of another kind.
    """
    return [run for place in places for run in (_read_runs(place) if place.is_file() else _runs_below(place))]


def write_runs(path: Path, runs: Sequence[SweepRun]) -> None:
    """Keep what the table needs of many runs in one file, to be joined with others later."""
    write_json(path, {"runs": [asdict(run) for run in runs]})


def _read_runs(file: Path) -> list[SweepRun]:
    try:
        return [SweepRun(**run) for run in json.loads(file.read_text(encoding="utf-8"))["runs"]]
    except (ValueError, KeyError, TypeError) as error:
        raise SweepError(f"{file} holds no runs; give a folder of runs, or a file that --json wrote") from error


def _runs_below(folder: Path) -> list[SweepRun]:
    started = sorted((hydra.parent for hydra in folder.rglob(".hydra")), key=_job_order)
    if not started:
        raise SweepError(f"{folder} holds no run; give the folder that `python run.py -m` printed its jobs into")
    if unfinished := [run for run in started if not (run / RESULTS_FILE).is_file()]:
        raise SweepError(
            f"{len(unfinished)} of {len(started)} runs in {folder} did not finish, the first is {unfinished[0]}; "
            "run their command again, or delete their folders"
        )
    return [SweepRun(_overrides(run), read_results(run)) for run in started]


def _job_order(run: Path) -> tuple[str, int, str]:
    return str(run.parent), int(run.name) if run.name.isdecimal() else -1, run.name


def _overrides(run: Path) -> dict[str, str]:
    written = yaml.safe_load((run / ".hydra" / "overrides.yaml").read_text(encoding="utf-8"))
    found = (override.partition("=") for override in written)
    return {key: value for key, _, value in found if key not in _NO_SETTINGS}


def figures_of(results: Mapping[str, Any]) -> dict[str, float]:
    """What the table shows of a run: share of wanted rows, the tuned model's metrics, seconds.

    Seconds count what the run reused as if it had built it, so that settings compare whatever ran first.
    """
    figures: dict[str, float] = {}
    if results["selection"]["precision"] is not None:
        figures["wanted rows"] = results["selection"]["precision"]
    figures |= {name: models["tuned"]["mean"] for name, models in results["metrics"].items()}
    stages = results["stages"].values()
    reused = (artifact for stage in stages for artifact in stage["artifacts"].values() if artifact["reused"])
    built_before = sum(artifact["built_in_seconds"] for artifact in reused)
    return figures | {"seconds": sum(stage["seconds"] for stage in stages) + built_before}


def settings_of(runs: Sequence[SweepRun]) -> list[Setting]:
    """Group runs by what they set besides the seed, in the order of the first run of each.

    Raises:
        SweepError: one setting occurs twice with the same seed.
    """
    keys = dict.fromkeys(key for run in runs for key in run.overrides)
    varied = [key for key in keys if len({run.overrides.get(key) for run in runs}) > 1]
    grouped: dict[str, list[SweepRun]] = {}
    for run in runs:
        parts = {key: run.overrides[key] for key in varied if key in run.overrides}
        label = parts.pop("selector", run.results["selector"])
        grouped.setdefault(" ".join([label, *(f"{key}={value}" for key, value in parts.items())]), []).append(run)
    for label, same in grouped.items():
        seeds = [run.results["seed"] for run in same]
        if len(set(seeds)) < len(seeds):
            raise SweepError(f"'{label}' was run more than once with the same seed ({seeds}); keep one run of each")
    return [_setting(label, same) for label, same in grouped.items()]


def _setting(label: str, runs: Sequence[SweepRun]) -> Setting:
    of_runs = [figures_of(run.results) for run in runs]
    return Setting(label, {name: [figures[name] for figures in of_runs] for name in of_runs[0]})


def with_spread(values: Sequence[float], digits: int) -> str:
    """Mean, and the sample standard deviation where there are several values."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def _cell(name: str, values: Sequence[float]) -> str:
    if name == "wanted rows":
        return f"{with_spread([100 * value for value in values], 1)} %"
    return with_spread(values, 0 if name == "seconds" else 3)


def sweep_lines(runs: Sequence[SweepRun]) -> list[list[str]]:
    """Header and lines of the table; the untrained model comes first.

    Raises:
        SweepError: as `settings_of`; or the runs have other metrics.
    """
    settings = settings_of(runs)
    names = list(settings[0].figures)
    for setting in settings:
        if list(setting.figures) != names:
            raise SweepError(f"'{setting.label}' has {list(setting.figures)}, others {names}: no one table holds both")
    base = {name: f"{models['base']['mean']:.3f}" for name, models in runs[0].results["metrics"].items()}
    lines = [["", "n", *names], ["(untrained)", "", *(base.get(name, "") for name in names)]]
    for setting in settings:
        n_seeds = str(len(next(iter(setting.figures.values()))))
        lines.append([setting.label, n_seeds, *(_cell(name, setting.figures[name]) for name in names)])
    return lines


def sweep_table(runs: Sequence[SweepRun]) -> Table:
    """The table for a terminal."""
    header, *lines = sweep_lines(runs)
    table = new_table("Mean ± standard deviation over seeds", *header)
    for line in lines:
        table.add_row(*map(Text, line))
    return table


def sweep_markdown(runs: Sequence[SweepRun]) -> str:
    """The table as Markdown."""
    header, *lines = sweep_lines(runs)
    rule = ["---", *["---:"] * (len(header) - 1)]
    escaped = [[cell.replace("|", r"\|") for cell in line] for line in (header, rule, *lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped) + "\n"
