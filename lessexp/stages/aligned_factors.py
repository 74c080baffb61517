"""A proxy's factors after alignment, chosen by how well they keep influence on rows held out."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lessexp.data.arrow_sequence import ArrowSequence
from lessexp.data.tokenize import TokenizedRow, collate
from lessexp.gradients.adam import PlainGradient
from lessexp.gradients.per_example import GradientFeatures
from lessexp.gradients.projection import SparseSignProjector
from lessexp.gradients.spaces import equivalent
from lessexp.models.causal_lm import load_causal_lm
from lessexp.proxies.alignment import FactorGradients, alignment_flops
from lessexp.proxies.alignment_module import Alignment, AlignmentSettings, align
from lessexp.proxies.compression import Compression, LayerReport, replace_layers
from lessexp.proxies.factors import ProxyError
from lessexp.reports.agreement import spearman
from lessexp.stages.cost import training_flops
from lessexp.stages.progress import say
from lessexp.stages.runtime import Runtime


def influence_among(
    model: nn.Module, rows: Sequence[TokenizedRow], *, layers: Sequence[str], proj_dim: int, seed: int, device: str
) -> Float[Tensor, " n_pairs"]:
    """Cosine of the weights' gradients for every two of the rows, projected; the same pairs for every model."""
    projector = SparseSignProjector(proj_dim, seed, nonzeros=1)
    features = GradientFeatures(model, projector, PlainGradient(), layers=equivalent(model, layers=layers))
    found = torch.cat([features.compute(collate([row], pad_token_id=0).to(device)) for row in rows])
    unit = nn.functional.normalize(found, dim=1)
    first, second = torch.triu_indices(len(rows), len(rows), offset=1)
    return (unit @ unit.T)[first, second].cpu()


def fidelity_to(target: nn.Module, influence: Callable[[nn.Module], Tensor]) -> Callable[[nn.Module], float]:
    """How a proxy ranks the pairs, against how the target does: Spearman.

    Raises:
        ProxyError: when the proxy's is measured, influence that is not finite.
    """
    exact = influence(target)

    def fidelity(proxy: nn.Module) -> float:
        found = influence(proxy)
        if not (found.isfinite().all() and exact.isfinite().all()):
            raise ProxyError(
                "influence among the rows held out is not finite; lower alignment.settings.learning_rate, or change "
                "alignment.seed for other rows"
            )
        return spearman(found, exact)

    return fidelity


@dataclass(frozen=True)
class AlignmentSetup:
    """How factors are aligned.

    Attributes:
        factor_gradients: see `lessexp.proxies.alignment_module.Alignment`.
        settings: see there.
        n_held_out: rows whose influence on each other is measured; the rest are trained on.
        proj_dim: of the gradients behind that.
        seed: of row orders and of the projection.
    """

    factor_gradients: FactorGradients
    settings: AlignmentSettings
    n_held_out: int
    proj_dim: int
    seed: int

    def flops(self, n_parameters: int, layers: Sequence[LayerReport], lengths: Int[np.ndarray, " n_rows"]) -> float:
        """Estimated arithmetic.

        Args:
            n_parameters: of the whole model.
            layers: of the proxy.
            lengths: tokens of each row, those held out first.
        """
        settings = self.settings
        n_by_layer = {one: one.out_features * one.in_features for one in layers if one.rank is not None}
        n_aligned, n_gone = sum(n_by_layer.values()), sum(int(n * one.sparsity) for one, n in n_by_layer.items())
        steps = alignment_flops(
            self.factor_gradients,
            n_target=n_parameters,
            n_proxy=n_parameters - n_gone,
            n_aligned=n_aligned,
            n_factors=n_aligned - n_gone,
            n_tokens=settings.epochs * int(lengths[self.n_held_out :].sum()),
        )
        n_steps = settings.epochs * math.ceil((len(lengths) - self.n_held_out) / settings.batch_size)
        n_measured = 2 + math.ceil(n_steps / settings.check_every)  # of the target and, before any step, of the proxy
        n_tokens = int(lengths[: self.n_held_out].sum())
        return steps + n_measured * (training_flops(n_parameters, n_tokens) + 2 * n_aligned * n_tokens)


def aligned(
    setup: AlignmentSetup,
    made: Compression,
    target: nn.Module,
    folder: Path,
    rows: ArrowSequence[TokenizedRow],
    *,
    layers: Sequence[str],
    pad_token_id: int,
    runtime: Runtime,
) -> tuple[Compression, list[tuple[int, float]]]:
    """Align factors, and say what influence was kept before, meanwhile and after.

    Args:
        setup: how.
        made: the factors to start from.
        target: the whole model, loaded.
        folder: of the whole model, which is loaded once more in float32.
        rows: those that are held out, then those to train on.
        layers: ends of the names of the layers whose gradients are compared.
        pad_token_id: fills the ends of short rows.
        runtime: where and how.

    Returns:
        The factors of the highest fidelity, and (step, fidelity) of every measurement.
    """
    device = runtime.device
    proxy = replace_layers(load_causal_lm(folder, dtype="float32", device=device), made.factors)
    held_out, rest = list(rows[: setup.n_held_out]), list(rows[setup.n_held_out :])

    def influence(some: nn.Module) -> Tensor:
        return influence_among(some, held_out, layers=layers, proj_dim=setup.proj_dim, seed=setup.seed, device=device)

    module = Alignment(
        target,
        proxy,
        setup.settings,
        factor_gradients=setup.factor_gradients,
        fidelity=fidelity_to(target, influence),
    )
    best = align(
        module,
        rest,
        pad_token_id=pad_token_id,
        seed=setup.seed,
        device=device,
        loggers=[],
        log_folder=runtime.log_folder,
    )
    step, fidelity = max(module.history, key=lambda measured: measured[1])
    say(
        f"proxy: influence on {len(held_out)} rows held out is kept to a Spearman of {fidelity:.3f} after step {step}, "
        f"{module.history[0][1]:.3f} before alignment"
    )
    return Compression(best, made.layers), module.history
