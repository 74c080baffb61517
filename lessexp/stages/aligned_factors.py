"""A proxy's factors after alignment, chosen by how well they keep influence on rows held out."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor, nn

from lessexp.data.arrow_sequence import ArrowSequence
from lessexp.data.tokenize import TokenizedRow, collate
from lessexp.gradients.adam import PlainGradient
from lessexp.gradients.per_example import GradientFeatures
from lessexp.gradients.projection import SparseSignProjector
from lessexp.gradients.spaces import equivalent
from lessexp.models.causal_lm import load_causal_lm
from lessexp.proxies.alignment_module import Alignment, align
from lessexp.proxies.compression import Compression, replace_layers
from lessexp.proxies.factors import ProxyError
from lessexp.reports.agreement import spearman
from lessexp.stages.configuration import instantiate
from lessexp.stages.model_in_use import ModelInUse
from lessexp.stages.progress import say


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


def aligned(
    cfg: DictConfig,
    made: Compression,
    target: nn.Module,
    rows: ArrowSequence[TokenizedRow],
    *,
    layers: Sequence[str],
    model: ModelInUse,
    log_folder: Path,
) -> tuple[Compression, list[tuple[int, float]]]:
    """Align factors, and say what influence was kept before, meanwhile and after.

    Args:
        cfg: the ``alignment`` node.
        made: the factors to start from.
        target: the whole model, loaded.
        rows: the first ``n_held_out`` are held out, alignment reads the rest.
        layers: ends of the names of the layers whose gradients are compared.
        model: the whole model, to be loaded once more in float32.
        log_folder: what Lightning may write to.

    Returns:
        The factors of the highest fidelity, and (step, fidelity) of every measurement.
    """
    proxy = replace_layers(load_causal_lm(model.folder, dtype="float32", device=model.device), made.factors)
    held_out, rest = list(rows[: cfg.n_held_out]), list(rows[cfg.n_held_out :])

    def influence(some: nn.Module) -> Tensor:
        return influence_among(some, held_out, layers=layers, proj_dim=cfg.proj_dim, seed=cfg.seed, device=model.device)

    module = Alignment(
        target,
        proxy,
        instantiate(cfg.settings),
        factor_gradients=instantiate(cfg.factor_gradients),
        fidelity=fidelity_to(target, influence),
    )
    best = align(
        module,
        rest,
        pad_token_id=model.tokenizer.pad_token_id,
        seed=cfg.seed,
        device=model.device,
        loggers=[],
        log_folder=log_folder,
    )
    step, fidelity = max(module.history, key=lambda measured: measured[1])
    say(
        f"proxy: influence on {len(held_out)} rows held out is kept to a Spearman of {fidelity:.3f} after step {step}, "
        f"{module.history[0][1]:.3f} before alignment"
    )
    return Compression(best, made.layers), module.history
