"""How well projections keep cosines and rankings, on real gradients and on concentrated vectors, and what they cost."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from rich.table import Table
from torch import Tensor

from lessexp.benchmark.tables import spread_text
from lessexp.benchmark.timing import time_in_turns
from lessexp.benchmark.unprojected import Blocks, Gradients, concentrated_gradients, real_gradients
from lessexp.gradients.projection import Projector, RademacherProjector, SparseSignProjector, SRHTProjector
from lessexp.reports.agreement import spearman
from lessexp.reports.tables import new_table
from lessexp.stages.progress import progress_bar

MakeProjector = Callable[[int, int], Projector]

REFERENCE = "rademacher"
PROJECTIONS: Mapping[str, MakeProjector] = {
    REFERENCE: RademacherProjector,
    "sparse_sign_1": partial(SparseSignProjector, nonzeros=1),
    "sparse_sign_4": partial(SparseSignProjector, nonzeros=4),
    "srht": SRHTProjector,
}

TIMED_ROWS = 8  # about what one batch holds
TIMED_COORDINATES = 1 << 15  # whole parameters up to about this many are timed and scaled up

DEFAULT_DIM = 8192  # of the paper; the default projection is chosen there
SPEARMAN_TOLERANCE = 0.005
RMSE_TOLERANCE = 1.25


def fidelity(found: Float[Tensor, "n m"], exact: Float[Tensor, "n m"]) -> dict[str, float]:
    """Root mean square error of the cosine, and Spearman correlation of the scores (means over the target)."""
    return {
        "cosine_rmse": (found - exact).square().mean().sqrt().item(),
        "spearman": spearman(found.mean(1), exact.mean(1)),
    }


def projected(name: str, gradients: Gradients, dims: list[int], seed: int) -> Iterator[Float[Tensor, "_n _proj_dim"]]:
    """The rows after projection to each of the dimensions."""
    make = PROJECTIONS[name]
    if name == REFERENCE:  # a smaller one is the start of a larger one, but for a factor that no cosine sees
        widest = make(max(dims), seed).project(gradients.blocks)
        yield from (widest[:, :proj_dim] for proj_dim in dims)
    else:
        yield from (make(proj_dim, seed).project(gradients.blocks) for proj_dim in dims)


def seconds_a_row(projector: Projector, blocks: Blocks) -> float:
    """Seconds to project one row of a batch, median of three runs; what a projector keeps between batches is ready.

    Some of the parameters are timed and the time scaled up: it grows with the number of coordinates.
    """
    sample: Blocks = {}
    n_timed = 0
    for name, block in blocks.items():
        if sample and n_timed + block.shape[1] > TIMED_COORDINATES:
            break
        sample[name] = block[:TIMED_ROWS]
        n_timed += block.shape[1]
    timing = time_in_turns({"project": lambda: projector.project(sample)}, repeats=3)["project"]
    n_rows = len(next(iter(sample.values())))
    return timing.median / n_rows * sum(block.shape[1] for block in blocks.values()) / n_timed


def over_seeds(runs: list[dict[str, float]]) -> dict[str, float]:
    """Mean and standard deviation of each figure; no deviation of a single run."""
    kinds = ("mean", "std") if len(runs) > 1 else ("mean",)
    return {
        f"{figure}_{kind}": getattr(torch.tensor([run[figure] for run in runs]), kind)().item()
        for figure in runs[0]
        for kind in kinds
    }


def choose_default(results: Mapping[str, Any], proj_dim: int) -> str:
    """The cheapest projection that ranks real gradients and bears concentrated vectors like dense signs."""
    real, concentrated = (
        {name: by_dim[str(proj_dim)] for name, by_dim in results[case].items()}
        for case in ("projections", "concentrated")
    )
    least = real[REFERENCE]["spearman_mean"] - SPEARMAN_TOLERANCE
    most = concentrated[REFERENCE]["cosine_rmse_mean"] * RMSE_TOLERANCE
    faithful = [
        name for name in real if real[name]["spearman_mean"] >= least and concentrated[name]["cosine_rmse_mean"] <= most
    ]
    return min(faithful, key=lambda name: real[name]["seconds_mean"])


def measure(*, n_pool: int, n_target: int, max_length: int, rank: int, dims: list[int], n_seeds: int) -> dict[str, Any]:
    """Fidelity and cost over projection seeds, by projection and dimension, and the default that they suggest."""
    real = real_gradients(n_pool=n_pool, n_target=n_target, max_length=max_length, rank=rank)
    dims = sorted(set(dims))
    exact = real.exact_cosines()
    n_pool, n_target = exact.shape  # rows may have been left out
    concentrated = concentrated_gradients(
        n_pool=n_pool, n_target=n_target, n_parameters=22, size=9216, n_heavy=16, share=0.9, seed=1
    )
    exact_concentrated = concentrated.exact_cosines()
    runs: dict[str, dict] = {
        case: {name: {str(proj_dim): [] for proj_dim in dims} for name in PROJECTIONS}
        for case in ("projections", "concentrated")
    }
    with progress_bar("projections", total=n_seeds * len(PROJECTIONS)) as advance:
        for seed in range(n_seeds):
            for name, make in PROJECTIONS.items():
                for proj_dim, rows in zip(dims, projected(name, real, dims, seed), strict=True):
                    cost = {"seconds": seconds_a_row(make(proj_dim, seed), real.blocks)}
                    runs["projections"][name][str(proj_dim)].append(fidelity(real.cosines(rows), exact) | cost)
                for proj_dim, rows in zip(dims, projected(name, concentrated, dims, seed), strict=True):
                    found = fidelity(concentrated.cosines(rows), exact_concentrated)
                    runs["concentrated"][name][str(proj_dim)].append(found)
                advance(1)
    results: dict[str, Any] = {"n_pool": n_pool, "n_target": n_target, "n_seeds": n_seeds}
    for case, by_name in runs.items():
        results[case] = {
            name: {proj_dim: over_seeds(found) for proj_dim, found in by_dim.items()}
            for name, by_dim in by_name.items()
        }
    default_dim = DEFAULT_DIM if DEFAULT_DIM in dims else max(dims)
    return results | {"default": choose_default(results, default_dim), "default_proj_dim": default_dim}


def tables(results: Mapping[str, Any]) -> Iterator[Table | str]:
    """A line a projection and dimension, on real gradients and on concentrated vectors, and the default."""
    n_seeds = results["n_seeds"]
    columns = ("projection", "d", "error of the cosine", "Spearman")
    seeds = f"mean ± standard deviation over {n_seeds} seeds" if n_seeds > 1 else "one seed"
    real = new_table(f"Real gradients, {seeds}", *columns, "ms a row")
    concentrated = new_table(f"Concentrated vectors, {seeds}", *columns)
    for table, case in ((real, "projections"), (concentrated, "concentrated")):
        for name, by_dim in results[case].items():
            for proj_dim, figures in by_dim.items():
                line = [name, proj_dim, spread_text(figures, "cosine_rmse", 4), spread_text(figures, "spearman", 4)]
                if "seconds_mean" in figures:
                    line.append(f"{1000 * figures['seconds_mean']:,.1f}")
                table.add_row(*line)
            table.add_section()
        yield table
    yield (
        f"Default at d = {results['default_proj_dim']}: {results['default']}, the cheapest whose Spearman on real "
        f"gradients is at most {SPEARMAN_TOLERANCE} below dense {REFERENCE}'s and whose error on concentrated vectors "
        f"is at most {RMSE_TOLERANCE} times its"
    )


def plot(results: Mapping[str, Any], path: Path) -> None:
    """Error and ranking against the dimension, a line a projection; bars are standard deviations over seeds."""
    # These take long to import, and only the plot needs them.
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure = Figure(figsize=(13, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    panels = (
        ("projections", "cosine_rmse", "RMS error of the cosine", "Real gradients: cosines"),
        ("projections", "spearman", "Spearman with the exact scores", "Real gradients: ranking of the pool"),
        ("concentrated", "cosine_rmse", "RMS error of the cosine", "Concentrated vectors: cosines"),
    )
    for axis, (case, key, label, title) in zip(axes, panels, strict=True):
        for index, (name, by_dim) in enumerate(results[case].items()):
            dims = [int(proj_dim) for proj_dim in by_dim]
            beside = [d * 2 ** (0.06 * index - 0.09) for d in dims]  # so that bars do not hide each other
            means, spreads = ([found.get(f"{key}_{kind}", 0) for found in by_dim.values()] for kind in ("mean", "std"))
            axis.errorbar(beside, means, spreads, marker="o", markersize=4, linewidth=1, capsize=2, label=name)
        axis.set_xscale("log", base=2)
        axis.set_xticks(dims, [str(d) for d in dims])
        axis.set(xlabel="projection dimension d", ylabel=label, title=title)
        axis.grid(alpha=0.3)
        if key == "cosine_rmse":
            axis.plot(dims, [d**-0.5 for d in dims], color="grey", linestyle="--", label="1/√d")
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.yaxis.set_minor_formatter(NullFormatter())
    axes[0].legend()
    figure.savefig(path, dpi=150)
