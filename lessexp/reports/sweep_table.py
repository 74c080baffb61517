"""Many runs in one table: what differs between them, how they did beside published numbers, and what they cost."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from lessexp.reports.measures import BYTES, FLOP, GPU_HOURS, SECONDS, Measure, Scale, scale_of
from lessexp.reports.noise import CONFIDENCE, MIN_SEEDS_OF_INTERVAL, clear_best, with_spread
from lessexp.reports.published import Published, published_for, published_text
from lessexp.reports.runs import SweepRun
from lessexp.reports.settings import AVERAGE, Setting, measures_of, settings_of

UNTRAINED = "(untrained)"
_CONFIDENT = f"{100 * CONFIDENCE:g} %"


@dataclass(frozen=True)
class Cell:
    """Text of a table; bold where it is the best of its column beyond the noise."""

    text: str = ""
    bold: bool = False


@dataclass(frozen=True)
class SweepTable:
    """A table in no format yet.

    Attributes:
        header: one text a column.
        lines: the untrained model first, then one line a setting.
        notes: sentences to be read with it.
    """

    header: list[str]
    lines: list[list[Cell]]
    notes: list[str]

    @property
    def texts(self) -> list[list[str]]:
        """Header and lines as bare text."""
        return [self.header, *([cell.text for cell in line] for line in self.lines)]


@dataclass(frozen=True)
class _Column:
    header: str
    untrained: list[str]
    cells: list[Cell]


def sweep_table(
    runs: Sequence[SweepRun], *, intervals: bool = False, unconfirmed: bool = False, notes: Sequence[str] = ()
) -> SweepTable:
    """The table of all runs.

    Args:
        runs: of one code and of the same data.
        intervals: give each figure's bootstrap interval a column.
        unconfirmed: show published numbers too that no independent source has.
        notes: what is to be said besides.

    Raises:
        SweepError: as `settings_of`.
    """
    settings = settings_of(runs)
    models = list(dict.fromkeys(setting.results["model"] for setting in settings))
    columns = [
        _Column(
            "",
            [UNTRAINED if len(models) == 1 else f"{UNTRAINED} {model}" for model in models],
            [Cell(setting.label) for setting in settings],
        ),
        _Column("n", [""] * len(models), [Cell(setting.n_runs) for setting in settings]),
    ]
    published = published_beside(settings, unconfirmed=unconfirmed)
    for measure in measures_of(settings):
        columns += _columns(measure, settings, models, published, intervals=intervals, unconfirmed=unconfirmed)
    lines = [[Cell(column.untrained[index]) for column in columns] for index in range(len(models))]
    lines += [[column.cells[index] for column in columns] for index in range(len(settings))]
    any_bold = any(cell.bold for line in lines for cell in line)
    said = [*_notes(settings, list(published.values()), any_bold=any_bold, intervals=intervals), *notes]
    return SweepTable([column.header for column in columns], lines, said)


def published_beside(settings: Sequence[Setting], *, unconfirmed: bool) -> dict[tuple[str, Measure], Published]:
    """Published numbers by label and figure of the settings that they stand beside."""
    found = {
        (setting.label, measure): published_for(setting, measure, unconfirmed=unconfirmed)
        for setting in settings
        for measure in setting.values
    }
    return {place: number for place, number in found.items() if number is not None}


def best_labels(settings: Sequence[Setting], measure: Measure) -> set[str]:
    """The best setting of each trained model, where it is ahead of all others of that model by more than the noise."""
    by_model: dict[str, dict[str, dict[int, float]]] = {}
    for setting in settings:
        if measure in setting.values:
            by_model.setdefault(setting.results["model"], {})[setting.label] = setting.values[measure]
    found = (clear_best(of_model, measure.direction) for of_model in by_model.values())
    return {label for label in found if label is not None}


def column_scale(measure: Measure, settings: Sequence[Setting], *, in_percent: bool) -> Scale:
    """How a figure's column is written."""
    means = [statistics.mean(setting.values[measure].values()) for setting in settings if measure in setting.values]
    return scale_of(measure, max(means), in_percent=in_percent)


def _columns(
    measure: Measure,
    settings: Sequence[Setting],
    models: Sequence[str],
    published: dict[tuple[str, Measure], Published],
    *,
    intervals: bool,
    unconfirmed: bool,
) -> list[_Column]:
    scale = column_scale(measure, settings, in_percent=bool(published))
    best = best_labels(settings, measure)

    def cell(setting: Setting) -> Cell:
        if measure not in setting.values:
            return Cell()
        values = [scale.factor * value for value in setting.values[measure].values()]
        return Cell(f"{with_spread(values, scale.digits)}{scale.suffix}", setting.label in best)

    untrained = [_untrained_text(measure, settings, model, scale) for model in models]
    columns = [_Column(scale.header, untrained, [cell(setting) for setting in settings])]
    empty = [""] * len(models)
    if intervals and any(setting.interval(measure) for setting in settings):
        texts = [_interval_text(setting, measure, scale) for setting in settings]
        columns.append(_Column(f"{measure.name}, {_CONFIDENT} interval", empty, list(map(Cell, texts))))
    numbers = [published.get((setting.label, measure)) for setting in settings]
    if any(numbers):
        texts = ["" if number is None else published_text(number, unconfirmed=unconfirmed) for number in numbers]
        columns.append(_Column(f"{measure.name}, published", empty, list(map(Cell, texts))))
        texts = [
            "" if number is None else f"{scale.factor * _mean(setting, measure) - number.value:+.{scale.digits}f}"
            for setting, number in zip(settings, numbers, strict=True)
        ]
        columns.append(_Column(f"{measure.name} − published", empty, list(map(Cell, texts))))
    return columns


def _mean(setting: Setting, measure: Measure) -> float:
    return statistics.mean(setting.values[measure].values())


def _untrained_text(measure: Measure, settings: Sequence[Setting], model: str, scale: Scale) -> str:
    """What the untrained model reached: over seeds where these draw the test rows, a range where settings change it."""

    def text(value: float) -> str:
        return f"{value:.{scale.digits}f}"

    by_seed: dict[int, list[float]] = {}
    for setting in settings:
        if setting.results["model"] == model:
            for seed, value in setting.untrained.get(measure, {}).items():
                by_seed.setdefault(seed, []).append(scale.factor * value)
    values = [value for of_seed in by_seed.values() for value in of_seed]
    if not values:
        return ""
    if text(min(values)) == text(max(values)):
        return text(values[0])
    if any(text(min(of_seed)) != text(max(of_seed)) for of_seed in by_seed.values()):
        return f"{text(min(values))}–{text(max(values))}"
    return with_spread([of_seed[0] for of_seed in by_seed.values()], scale.digits)


def _interval_text(setting: Setting, measure: Measure, scale: Scale) -> str:
    interval = setting.interval(measure)
    if interval is None:
        return ""
    ends, over = interval
    low, high = (f"{scale.factor * end:.{scale.digits}f}" for end in ends)
    return f"{low} to {high}{'' if over == 'seeds' else ' (rows)'}"


def _notes(
    settings: Sequence[Setting], published: Sequence[Published], *, any_bold: bool, intervals: bool
) -> list[str]:
    measures = measures_of(settings)
    tasks = [measure for measure in measures if len(measure.tasks) == 1 and measure.tasks[0] == measure.name]
    names = {measure.name for measure in measures}
    notes = ["Mean ± sample standard deviation over n seeds; (untrained) is the model before training."]
    if any_bold:
        notes.append(
            f"Bold: ahead of every other setting of the same model by more than the seeds explain ({_CONFIDENT} "
            "t interval, paired where the seeds are the same). Single runs are never ahead."
        )
    if intervals:
        notes.append(
            f"Intervals: percentile bootstrap over the seeds from {MIN_SEEDS_OF_INTERVAL} seeds on; of a single run "
            "over its test rows, marked (rows)."
        )
    if tasks:
        own = ", ".join(f"{measure.name} {measure.metric}" for measure in tasks)
        average = f" {AVERAGE}: of the tasks, seed by seed." if AVERAGE in names else ""
        notes.append(f"Figures: {own}.{average} Costs are those of one task.")
    notes.append(_cost_note(settings, names))
    if published:
        sources = "; ".join(dict.fromkeys(number.source for number in published))
        doubtful = any(not number.confirmed or number.sd_is_doubtful for number in published)
        doubt = " A question mark: no independent source confirms it." if doubtful else ""
        notes.append(f"Published: {sources}.{doubt}")
    different = {
        f"'{dataset}' {numbers['found']:,} of {numbers['expected']:,} rows"
        for setting in settings
        for dataset, numbers in setting.results.get("pool", {}).get("differences", {}).items()
    }
    if published and different:
        notes.append(f"The pool is not the published one: {', '.join(sorted(different))}.")
    return notes


def _cost_note(settings: Sequence[Setting], names: set[str]) -> str:
    devices = list(dict.fromkeys(setting.results.get("device", "one not recorded") for setting in settings))
    shown = {SECONDS: "seconds", GPU_HOURS: "GPU-hours", FLOP: "estimated arithmetic", BYTES: "bytes written"}
    listed = ", ".join(text for name, text in shown.items() if name in names)
    note = f"Costs ({listed}) count what was reused as if it had been built"
    if len(devices) > 1:
        return f"{note}; devices differ, so times do not compare: {', '.join(devices)}."
    return f"{note}." if "device" not in settings[0].results else f"{note}; device: {devices[0]}."
