"""How far the influence that a smaller stand-in finds is the whole model's, and what it costs beside it.

Every figure is of runs up to their selection, with the settings that the command line gives, so all that holds for a
run holds here: artifacts are shared, and a benchmark that was stopped goes on where it was.
"""

import itertools
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from lessexp.benchmark.tables import spread_text
from lessexp.files import read_json, write_json
from lessexp.pipeline import run
from lessexp.reports.comparison import SelectionOfRun, agreement, read_selection
from lessexp.reports.figure_style import COLOURS, MARKERS, new_figure, nth
from lessexp.reports.measures import FLOP, SECONDS, costs
from lessexp.reports.tables import new_table
from lessexp.stages.composition import compose_config
from lessexp.stages.configuration import ExperimentError
from lessexp.stages.progress import say

TOP_SHARE = "5%"  # of the pool
_WITHOUT_FACTORS = "layer_drop"  # there is nothing in it to align
_MAKING, _GRADIENTS = "proxy", "gradients"  # stages whose cost counts
_NAMING = ("stand-in", "ρ", "alignment")
_APART = 0.006  # of ρ, between lines, so that their ranges do not hide each other
_FIGURES = (
    *("spearman", "top_overlap", "seconds_over_whole", "flop_over_whole"),
    *("gradient_seconds_over_whole", "gradient_flop_over_whole"),
)


@dataclass(frozen=True)
class StandIn:
    """What selects in the place of the whole model.

    Attributes:
        name: of the proxy, or of the smaller model.
        sparsity: asked for; ``None`` for a smaller model.
        alignment: an option of the group.
        overrides: that make a run of it.
    """

    name: str
    sparsity: float | None
    alignment: str
    overrides: tuple[str, ...]

    def takes(self, override: str) -> bool:
        """Whether an override of all runs is one of this run: not all have factors or probes, nor are all aligned."""
        key, absent = override.partition("=")[0], object()
        if not key.startswith(("proxy.", "alignment.")):
            return True
        return OmegaConf.select(self._config, key, default=absent) is not absent

    def run_overrides(self, settings: Sequence[str]) -> list[str]:
        """Of its run, out of those of all."""
        return [*self.overrides, *filter(self.takes, settings)]

    @cached_property
    def _config(self) -> DictConfig:
        return compose_config(self.overrides)


_WHOLE = StandIn("whole model", None, "off", ("selector=less",))


def stand_ins(
    proxies: Sequence[str], sparsities: Sequence[float], alignments: Sequence[str], smaller_models: Sequence[str]
) -> Iterator[StandIn]:
    """All of them: every proxy at every sparsity and in every alignment, and models in local folders."""
    for proxy, sparsity, alignment in itertools.product(proxies, sparsities, alignments):
        if proxy != _WITHOUT_FACTORS or alignment == "off":
            settings = ("selector=iprox", f"proxy={proxy}", f"proxy.sparsity={sparsity}", f"alignment={alignment}")
            yield StandIn(proxy, sparsity, alignment, settings)
    for folder in smaller_models:
        settings = ("selector=less_t", "selection_model=hf", f"selection_model.path={folder}")
        yield StandIn(Path(folder).name, None, "off", settings)


@dataclass(frozen=True)
class _Outcome:
    selection: SelectionOfRun
    costs: dict[str, float]
    gradient_costs: dict[str, float]
    sparsity: float | None


def _select(stand_in: StandIn, settings: Sequence[str], seed: int) -> _Outcome:
    overrides = [*stand_in.run_overrides(settings), f"seed={seed}"]
    cfg = compose_config(["logger=none", *overrides])
    cfg.selector.stages = ["select"]
    with tempfile.TemporaryDirectory() as folder:
        say(f"━━ {' '.join(overrides)}")
        run(cfg, Path(folder))
        records = {
            name: read_json(file)
            for name in (_MAKING, _GRADIENTS)
            if (file := Path(folder, "stages", f"{name}.json")).is_file()
        }
        made = records.get(_MAKING, {}).get("artifacts", {}).get("proxy")
        return _Outcome(
            read_selection(Path(folder), " ".join(overrides)),
            costs({"stages": records}),
            costs({"stages": {_GRADIENTS: records[_GRADIENTS]}}),
            None if made is None else made["sparsity"],
        )


def _figures(whole: _Outcome, other: _Outcome) -> dict[str, float]:
    agreed = agreement(whole.selection, other.selection)
    return {
        "spearman": agreed["spearman"],
        "top_overlap": agreed["top_overlap"][TOP_SHARE],
        "seconds_over_whole": other.costs[SECONDS] / whole.costs[SECONDS],
        "flop_over_whole": other.costs[FLOP] / whole.costs[FLOP],
        "gradient_seconds_over_whole": other.gradient_costs[SECONDS] / whole.gradient_costs[SECONDS],
        "gradient_flop_over_whole": other.gradient_costs[FLOP] / whole.gradient_costs[FLOP],
    }


def measure(
    *,
    overrides: Sequence[str],
    proxies: Sequence[str],
    sparsities: Sequence[float],
    alignments: Sequence[str],
    smaller_models: Sequence[str],
    seeds: Sequence[int],
    file: Path | None = None,
) -> dict[str, Any]:
    """Agreement with the whole model's scores, and cost over its, by stand-in and seed.

    Costs are those of making the stand-in and of all gradients of pool and target; what was reused counts as if it had
    been built. Warm-ups do not count, on neither side. The larger the pool, the nearer they come to those of the
    gradients alone, which are given too.

    Args:
        overrides: of every run; those of ``proxy`` of the low-rank proxies only, those of ``alignment`` of the aligned.
        proxies: options of the group ``proxy``.
        sparsities: ρ.
        alignments: options of the group ``alignment``.
        smaller_models: folders of models that select as they are (LESS-T).
        seeds: of the runs; whole model and stand-in always have the same.
        file: what it holds is not measured again, and is among the figures; each new one is added at once.

    Returns:
        ``measurements``, each with what names its stand-in, the overrides and the seed of its run, and its figures.
    """
    candidates = list(stand_ins(proxies, sparsities, alignments, smaller_models))
    for override in overrides:
        if not any(candidate.takes(override) for candidate in candidates):
            raise ExperimentError(f"{override}: none of the stand-ins has such a setting; leave it out or correct it")
    measurements = read_json(file)["measurements"] if file and file.is_file() else []
    known = {(*one["overrides"], one["seed"]) for one in measurements}
    for seed in seeds:
        missing = [one for one in candidates if (*one.run_overrides(overrides), seed) not in known]
        if not missing:
            continue
        whole = _select(_WHOLE, overrides, seed)
        for candidate in missing:
            outcome = _select(candidate, overrides, seed)
            measurements.append(
                {
                    "name": candidate.name,
                    "sparsity": candidate.sparsity,
                    "sparsity_reached": outcome.sparsity,
                    "alignment": candidate.alignment,
                    "overrides": candidate.run_overrides(overrides),
                    "seed": seed,
                    "n_rows": len(whole.selection.scores),
                }
                | _figures(whole, outcome)
            )
            if file:
                write_json(file, {"measurements": measurements})
    return {"measurements": measurements}


def over_seeds(by_seed: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of every figure and, from two seeds on, its sample standard deviation."""
    found = {}
    for name in by_seed[0]:
        values = [figures[name] for figures in by_seed]
        found[f"{name}_mean"] = statistics.mean(values)
        if len(values) > 1:
            found[f"{name}_std"] = statistics.stdev(values)
    return found


def by_stand_in(measurements: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Figures over the seeds of each stand-in, by proxy, alignment and sparsity, smaller models last."""
    runs: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for one in measurements:
        runs.setdefault(tuple(one["overrides"]), []).append(one)
    names = list(dict.fromkeys(one["name"] for one in measurements))
    found = [
        {key: by_seed[0][key] for key in ("name", "sparsity", "sparsity_reached", "alignment", "n_rows")}
        | {"n_seeds": len(by_seed)}
        | over_seeds([{name: one[name] for name in _FIGURES} for one in by_seed])
        for by_seed in runs.values()
    ]
    return sorted(
        found,
        key=lambda one: (one["sparsity"] is None, names.index(one["name"]), one["alignment"], one["sparsity"] or 0.0),
    )


def tables(results: Mapping[str, Any]) -> Iterator[Table]:
    """What the stand-ins find, and what that costs; a line each."""
    found = by_stand_in(results["measurements"])
    fidelity = new_table("Influence beside the whole model's", *_NAMING, "seeds", "Spearman", "top 5 % shared")
    cost = new_table(
        "Cost over the whole model's, and that of gradients alone (Γ)", *_NAMING, "seconds", "Γ", "FLOP", "Γ"
    )
    for figures in found:
        rho = "" if figures["sparsity"] is None else f"{figures['sparsity']:g}"
        naming = (figures["name"], rho, figures["alignment"])
        fidelity.add_row(
            *naming, str(figures["n_seeds"]), *(spread_text(figures, name, 2) for name in ("spearman", "top_overlap"))
        )
        seconds = (spread_text(figures, f"{part}seconds_over_whole", 1) for part in ("", "gradient_"))
        flop = (f"{figures[f'{part}flop_over_whole_mean']:.2f}" for part in ("", "gradient_"))
        cost.add_row(*naming, *seconds, *flop)
    yield fidelity
    yield cost


def plot(results: Mapping[str, Any], path: Path) -> None:
    """Spearman over sparsity, a line for each proxy and alignment; a smaller model is a level."""
    figure = new_figure()
    figure.set_figwidth(7.2)
    _draw(figure, by_stand_in(results["measurements"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _draw(figure: Figure, found: Sequence[Mapping[str, Any]]) -> None:
    axes = figure.subplots()
    names = list(dict.fromkeys(one["name"] for one in found))
    lines: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for figures in found:
        lines.setdefault((figures["name"], figures["alignment"]), []).append(figures)
    for index, ((name, alignment), points) in enumerate(lines.items()):
        plain = alignment == "off"
        style = {"color": nth(COLOURS, names.index(name)), "label": name if plain else f"{name}, {alignment}"}
        if points[0]["sparsity"] is None:
            axes.axhline(points[0]["spearman_mean"], linestyle=":", **style)
            continue
        beside = _APART * (index - len(lines) / 2)
        axes.errorbar(
            [point["sparsity"] + beside for point in points],
            [point["spearman_mean"] for point in points],
            [point.get("spearman_std", 0.0) for point in points],
            marker=nth(MARKERS, names.index(name)),
            markerfacecolor=None if plain else "white",
            linestyle="-" if plain else "--",
            elinewidth=0.8,
            capsize=2,
            **style,
        )
    axes.set(xlabel="sparsity ρ", ylabel="Spearman with the whole model")
    axes.set_xticks(sorted({one["sparsity"] for one in found if one["sparsity"] is not None}))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
