"""All figures of a sweep, and their files."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from lessexp.reports.cost_figure import against_cost
from lessexp.reports.curve import ablation_curve, swept_keys
from lessexp.reports.measures import FLOP, GPU_HOURS, SECONDS, WANTED_ROWS
from lessexp.reports.settings import Setting, measures_of


def sweep_figures(settings: Sequence[Setting]) -> Iterator[tuple[str, Figure]]:
    """Every figure that the settings allow, with its name: over each swept number, and against time and arithmetic."""
    measures = measures_of(settings)
    costs = {measure.name: measure for measure in measures if not measure.tasks}
    times = [costs[name] for name in (GPU_HOURS, SECONDS) if name in costs][:1]
    for measure in (measure for measure in measures if measure.tasks):
        with_it = [setting for setting in settings if measure in setting.values]
        for key in swept_keys(with_it):
            yield _file_name(measure.name, "over", key), ablation_curve(with_it, measure, key)
        if measure.metric != WANTED_ROWS:
            for cost in (*times, costs[FLOP]):
                yield _file_name(measure.name, "against", cost.name), against_cost(with_it, measure, cost)


def _file_name(*parts: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", " ".join(parts).lower())


def save_figures(settings: Sequence[Setting], folder: Path) -> list[Path]:
    """Write each figure as PDF and PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with rc_context({"pdf.fonttype": 42}):  # fonts that publishers take
        for name, figure in sweep_figures(settings):
            for path, options in (
                (folder / f"{name}.pdf", {"metadata": {"CreationDate": None}}),
                (folder / f"{name}.png", {"dpi": 150}),
            ):
                figure.savefig(path, **options)
                written.append(path)
    return written
