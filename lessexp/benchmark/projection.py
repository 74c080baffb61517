"""How well projections keep the cosines and the ranking of real gradients."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lessexp.benchmark.subject import adapted_model, batches, mixed_rows, smollm2_folder
from lessexp.gradients.adam import AdamDirection
from lessexp.gradients.per_example import per_example_gradients
from lessexp.gradients.projection import Projector, RademacherProjector, SparseSignProjector, SRHTProjector

Blocks = dict[str, Float[Tensor, "_n _size"]]

PROJECTIONS: Mapping[str, Callable[[int, int], Projector]] = {
    "rademacher": RademacherProjector,
    "sparse_sign_1": partial(SparseSignProjector, nonzeros=1),
    "sparse_sign_4": partial(SparseSignProjector, nonzeros=4),
    "srht": SRHTProjector,
}


def real_gradients(*, n_pool: int, n_target: int, max_length: int, rank: int) -> tuple[Blocks, Blocks]:
    """Γ of pool rows and plain gradients of target rows of SmolLM2, by parameter, unprojected."""
    folder = smollm2_folder()
    subject = adapted_model(folder, rank=rank)
    direction = AdamDirection(subject.checkpoint, eps_inside_sqrt=False, bias_correction=True)
    collected: dict[str, list[Tensor]] = {}
    for batch in batches(mixed_rows(n_pool + n_target, seed=1), folder, max_length=max_length, tokens_per_batch=512):
        for name, grad in per_example_gradients(subject.model, batch).items():
            collected.setdefault(name, []).append(grad.flatten(1))
    blocks = {name: torch.cat(parts) for name, parts in collected.items()}
    # Rows come sorted by length; every so many of them is a target, so that targets are of all lengths.
    n_rows = len(next(iter(blocks.values())))
    is_target = torch.zeros(n_rows, dtype=torch.bool)
    is_target[torch.linspace(0, n_rows - 1, n_target).long()] = True
    target = {name: block[is_target] for name, block in blocks.items()}
    pool = {name: direction(name, 0, block[~is_target]) for name, block in blocks.items()}
    return pool, target


def cosines(pool: Float[Tensor, "n d"], target: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Cosine of every pool row with every target row."""
    return torch.nn.functional.normalize(pool) @ torch.nn.functional.normalize(target).T


def exact_cosines(pool: Blocks, target: Blocks) -> Float[Tensor, "n m"]:
    """Cosines of the unprojected gradients, in float64."""
    products = sum(pool[name].double() @ target[name].double().T for name in pool)
    pool_norm, target_norm = (
        sum(block.double().square().sum(1) for block in blocks.values()).sqrt() for blocks in (pool, target)
    )
    return (products / pool_norm[:, None] / target_norm).float()


def spearman(first: Float[Tensor, " n"], second: Float[Tensor, " n"]) -> float:
    """Rank correlation; the values are taken to differ."""
    ranks = torch.stack([values.argsort().argsort().double() for values in (first, second)])
    return torch.corrcoef(ranks)[0, 1].item()


def fidelity(found: Float[Tensor, "n m"], exact: Float[Tensor, "n m"]) -> dict[str, float]:
    """Root mean square error of the cosine, and Spearman correlation of the scores (means over the target)."""
    return {
        "cosine_rmse": (found - exact).square().mean().sqrt().item(),
        "spearman": spearman(found.mean(1), exact.mean(1)),
    }


def measure(*, n_pool: int, n_target: int, max_length: int, rank: int, dims: list[int], n_seeds: int) -> dict[str, Any]:
    """Mean fidelity over projection seeds, by projection and dimension."""
    pool, target = real_gradients(n_pool=n_pool, n_target=n_target, max_length=max_length, rank=rank)
    exact = exact_cosines(pool, target)
    results: dict[str, dict] = {}
    for name, make in PROJECTIONS.items():
        found: dict[int, list[dict[str, float]]] = {proj_dim: [] for proj_dim in dims}
        for seed in range(n_seeds):
            if name == "rademacher":  # a smaller projection is the start of a larger one
                widest = make(max(dims), seed)
                projected = widest.project(pool), widest.project(target)
                for proj_dim in dims:
                    found[proj_dim].append(fidelity(cosines(*(rows[:, :proj_dim] for rows in projected)), exact))
            else:
                for proj_dim in dims:
                    projector = make(proj_dim, seed)
                    found[proj_dim].append(fidelity(cosines(projector.project(pool), projector.project(target)), exact))
        results[name] = {
            str(proj_dim): {
                f"{figure}_{kind}": getattr(torch.tensor([one[figure] for one in runs]), kind)().item()
                for figure in ("cosine_rmse", "spearman")
                for kind in (("mean", "std") if n_seeds > 1 else ("mean",))
            }
            for proj_dim, runs in found.items()
        }
    return {"n_pool": len(exact), "n_target": exact.shape[1], "n_seeds": n_seeds, "projections": results}


def plot(results: Mapping, path: Path) -> None:
    """Both figures against the dimension, a line a projection."""
    import matplotlib.pyplot as plt  # takes seconds to import, and only the plot needs it

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for axis, (key, label) in zip(
        axes, (("cosine_rmse", "error of the cosine"), ("spearman", "Spearman")), strict=True
    ):
        for name, by_dim in results["projections"].items():
            dims = [int(proj_dim) for proj_dim in by_dim]
            axis.plot(dims, [by_dim[str(d)][f"{key}_mean"] for d in dims], marker="o", label=name)
        axis.set(xscale="log", xlabel="projection dimension d", ylabel=label)
    axes[0].set(yscale="log")
    axes[0].legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)
