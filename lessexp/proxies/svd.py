"""Plain truncated SVD of the target model's linear layers: the baseline of IProX (arXiv:2602.17835)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lessexp.data.tokenize import Batch
from lessexp.proxies.compression import Compression, ranks_of, report_of, weight_of
from lessexp.proxies.factors import Factors


def truncated_svd(weight: Float[Tensor, "out in"], rank: int) -> tuple[Factors, Float[Tensor, " n"]]:
    """Factors of the nearest matrix of that rank (Eckart and Young, 1936), singular values split evenly.

    Returns:
        The factors, and all singular values, largest first.
    """
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    root = s[:rank].sqrt()
    return Factors(u[:, :rank] * root, root[:, None] * vh[:rank]), s


def relative_error(singular_values: Float[Tensor, " n"], rank: int) -> float:
    """Norm of what the best matrix of that rank misses, over the norm of the whole."""
    return (singular_values[rank:].norm() / singular_values.norm()).item()


def svd(
    model: nn.Module, _probes: Sequence[Batch], *, sparsity: float, rank_multiple: int, layers: Sequence[str]
) -> Compression:
    """Factors of linear layers from their weights alone.

    Args:
        model: the target model; it stays as it is.
        sparsity: ρ, share of the layers' parameters to remove.
        rank_multiple: ranks are rounded up to a multiple of this.
        layers: ends of the names of the layers to replace.

    Raises:
        ProxyError: see `lessexp.proxies.compression.ranks_of`.
    """
    found, ranks = ranks_of(model, layers=layers, sparsity=sparsity, rank_multiple=rank_multiple)
    factors, reports = {}, []
    for name, layer in found.items():
        rank, error = ranks[name], 0.0
        if rank is not None:
            pair, values = truncated_svd(weight_of(layer), rank)
            factors[name], error = pair.to(layer.weight), relative_error(values, rank)
        reports.append(report_of(name, layer, rank, error=error))
    return Compression(factors, reports)
