"""Runs grouped by what they set, and the figures of each group by seed."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lessexp.reports.measures import COSTS, WANTED_ROWS, Measure, costs, own_metric, qualities
from lessexp.reports.noise import MIN_SEEDS_OF_INTERVAL, interval_over_seeds
from lessexp.reports.runs import SweepError, SweepRun

AVERAGE = "average"
_FOLLOW_TASK = ("target", "benchmark")  # settings that name a task and its files rather than a way to select
_SAME_IN_A_SETTING = ("model", "selection_model", "fraction")

RunsBySeed = Mapping[int, SweepRun]
Values = dict[Measure, dict[int, float]]


@dataclass(frozen=True)
class Setting:
    """Runs that differ in their seed alone, and in the task where there are several.

    Attributes:
        label: what sets them apart from the other settings.
        varied: those overrides that settings differ in, without the selector.
        overrides: all of one run.
        results: of that run, for what all have in common.
        n_runs: how many seeds there are; of each task, where they differ.
        values: figures by seed. Of several tasks: each one's own metric, the mean over the tasks where a seed has
            all of them, and what a task costs.
        untrained: what the untrained model reached, by seed, for a seed may draw the test rows.
        row_intervals: bootstrap intervals over test rows, where there is one run.
    """

    label: str
    varied: dict[str, str]
    overrides: dict[str, str]
    results: Mapping[str, Any]
    n_runs: str
    values: Values
    untrained: Values
    row_intervals: dict[Measure, tuple[float, float]]

    def interval(self, measure: Measure) -> tuple[tuple[float, float], str] | None:
        """Bootstrap interval of a mean, and over what: seeds where there are enough, rows where there is one run."""
        by_seed = self.values.get(measure, {})
        if measure.tasks and len(by_seed) >= MIN_SEEDS_OF_INTERVAL:
            return interval_over_seeds(list(by_seed.values())), "seeds"
        return (self.row_intervals[measure], "rows") if measure in self.row_intervals else None


def settings_of(runs: Sequence[SweepRun]) -> list[Setting]:
    """Group runs by what they set besides the seed, in the order of the first run of each.

    Raises:
        SweepError: one setting occurs twice with the same seed, or its runs differ in what they did not set or in
            their metrics.
    """
    tasks = list(dict.fromkeys(run.results["task"] for run in runs))
    keys = _varied_keys(runs)
    settings = [_setting(label, same, keys, tasks) for label, same in by_label(runs).items()]
    names, *of_others = ([measure.name for measure in setting.values if measure.tasks] for setting in settings)
    for setting, other in zip(settings[1:], of_others, strict=True):
        if len(tasks) == 1 and other != names:
            raise SweepError(f"'{setting.label}' has {other}, others {names}: no one table holds both")
    return settings


def by_label(runs: Sequence[SweepRun]) -> dict[str, list[SweepRun]]:
    """Runs by what sets them apart besides seed and task, in the order of the first run of each."""
    keys = _varied_keys(runs)
    grouped: dict[str, list[SweepRun]] = {}
    for run in runs:
        grouped.setdefault(_label(run, keys), []).append(run)
    return grouped


def measures_of(settings: Sequence[Setting]) -> list[Measure]:
    """All figures of the settings: how they did, then what it cost."""
    found = dict.fromkeys(measure for setting in settings for measure in setting.values)
    order = {name: place for place, name in enumerate((AVERAGE, *COSTS), start=1)}
    return sorted(found, key=lambda measure: order.get(measure.name, 0))


def _varied_keys(runs: Sequence[SweepRun]) -> list[str]:
    keys = dict.fromkeys(key for run in runs for key in run.overrides)
    several_tasks = len({run.results["task"] for run in runs}) > 1

    def follows_task(key: str) -> bool:
        pairs = {(run.results["task"], run.overrides.get(key)) for run in runs}
        return key.startswith(_FOLLOW_TASK) and len(pairs) == len({task for task, _ in pairs})

    return [
        key
        for key in keys
        if len({run.overrides.get(key) for run in runs}) > 1 and not (several_tasks and follows_task(key))
    ]


def _label(run: SweepRun, keys: Sequence[str]) -> str:
    parts = [f"{key}={run.overrides[key]}" for key in keys if key in run.overrides and key != "selector"]
    return " ".join([run.results["selector"], *parts])


def _setting(label: str, runs: Sequence[SweepRun], keys: Sequence[str], tasks: Sequence[str]) -> Setting:
    first = runs[0]
    for run in runs:
        for name in _SAME_IN_A_SETTING:
            if run.results[name] != first.results[name]:
                raise SweepError(
                    f"{first.place} and {run.place} set the same but differ in {name} ({first.results[name]}, "
                    f"{run.results[name]}); put them in tables of their own"
                )
    by_task = {task: _by_seed(label, [run for run in runs if run.results["task"] == task]) for task in tasks}
    found = _of_tasks(by_task) if len(tasks) > 1 else _of_one_task(label, by_task[tasks[0]])
    counts = [str(len(by_seed)) for by_seed in by_task.values()]
    return Setting(
        label=label,
        varied={key: first.overrides[key] for key in keys if key in first.overrides and key != "selector"},
        overrides=first.overrides,
        results=first.results,
        n_runs=counts[0] if len(set(counts)) == 1 else "/".join(counts),
        values=found,
        untrained=_untrained(found, by_task),
        row_intervals=_row_intervals(found, by_task),
    )


def _by_seed(label: str, runs: Sequence[SweepRun]) -> dict[int, SweepRun]:
    seeds = [run.results["seed"] for run in runs]
    if len(set(seeds)) < len(seeds):
        raise SweepError(f"'{label}' was run more than once with the same seed ({seeds}); keep one run of each")
    return dict(zip(seeds, runs, strict=True))


def _costs(of_runs: Mapping[int, Sequence[Mapping[str, float]]]) -> Values:
    """Mean costs of each seed's runs; one that is not known of all runs is left out."""
    found = {}
    for name in COSTS:
        if all(name in of_run for of_seed in of_runs.values() for of_run in of_seed):
            by_seed = {seed: statistics.mean(of_run[name] for of_run in of_seed) for seed, of_seed in of_runs.items()}
            found[Measure(name, name, (), 0)] = by_seed
    return found


def _of_one_task(label: str, runs: RunsBySeed) -> Values:
    of_runs = {seed: qualities(run.results) for seed, run in runs.items()}
    measures, *of_others = map(list, of_runs.values())
    for other in of_others:
        if other != measures:
            names = [[measure.name for measure in some] for some in (measures, other)]
            raise SweepError(f"runs of '{label}' have {names[0]} and {names[1]}: no one table holds both")
    found = {measure: {seed: values[measure] for seed, values in of_runs.items()} for measure in measures}
    return found | _costs({seed: [costs(run.results)] for seed, run in runs.items()})


def _of_tasks(by_task: Mapping[str, RunsBySeed]) -> Values:
    found: Values = {}
    for task, runs in by_task.items():
        for seed, run in runs.items():
            if not run.results["metrics"]:  # it judged no model
                continue
            metric = own_metric(run.results)
            of_task = next(measure for measure in qualities(run.results) if measure.metric == metric)
            measure = Measure(task, metric, of_task.tasks, of_task.direction)
            found.setdefault(measure, {})[seed] = run.results["metrics"][metric]["tuned"]["mean"]
    if len(found) == len(by_task):
        found[_average(list(found))] = _mean_by_seed(list(found.values()))
    every = {seed: [costs(runs[seed].results) for runs in by_task.values() if seed in runs] for seed in _seeds(by_task)}
    return {measure: by_seed for measure, by_seed in found.items() if by_seed} | _costs(every)


def _seeds(by_task: Mapping[str, RunsBySeed]) -> list[int]:
    return list(dict.fromkeys(seed for runs in by_task.values() for seed in runs))


def _average(of_tasks: Sequence[Measure]) -> Measure:
    directions = {measure.direction for measure in of_tasks}
    metrics = ", ".join(dict.fromkeys(measure.metric for measure in of_tasks))
    tasks = tuple(sorted(task for measure in of_tasks for task in measure.tasks))
    return Measure(AVERAGE, metrics, tasks, directions.pop() if len(directions) == 1 else 0)


def _untrained(measures: Values, by_task: Mapping[str, RunsBySeed]) -> Values:
    found: Values = {}
    for measure in measures:
        if measure.tasks and measure.name == AVERAGE:
            found[measure] = _mean_by_seed(list(found.values()))
        elif measure.tasks and measure.metric != WANTED_ROWS:
            runs = by_task[measure.tasks[0]]
            found[measure] = {
                seed: run.results["metrics"][measure.metric]["base"]["mean"] for seed, run in runs.items()
            }
    return found


def _mean_by_seed(of_tasks: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Mean over the tasks of each seed that has all of them."""
    seeds = [seed for seed in of_tasks[0] if all(seed in by_seed for by_seed in of_tasks)]
    return {seed: statistics.mean(by_seed[seed] for by_seed in of_tasks) for seed in seeds}


def _row_intervals(measures: Values, by_task: Mapping[str, RunsBySeed]) -> dict[Measure, tuple[float, float]]:
    found = {}
    for measure in measures:
        if len(measure.tasks) == 1 and len(runs := by_task[measure.tasks[0]]) == 1:
            [run] = runs.values()
            tuned = run.results["metrics"].get(measure.metric, {}).get("tuned", {})
            if "interval" in tuned:  # older runs have none
                low, high = tuned["interval"]
                found[measure] = (low, high)
    return found
