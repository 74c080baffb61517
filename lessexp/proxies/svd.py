"""A proxy by plain truncated SVD of the target model's linear layers: the baseline of IProX (arXiv:2602.17835)."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lessexp.errors import UserError
from lessexp.proxies.low_rank_linear import LowRankLinear


class ProxyError(UserError, ValueError):
    """Settings under which the proxy would be the model itself."""


def rank_for_sparsity(out_features: int, in_features: int, *, sparsity: float, multiple: int) -> int | None:
    """Rank at which two factors hold ``1 - sparsity`` of a weight's parameters, rounded up to a multiple.

    Returns:
        ``None`` where the rounded rank saves nothing, so that the layer stays dense.
    """
    rank = round((1 - sparsity) * out_features * in_features / (out_features + in_features))
    rank = math.ceil(max(rank, 1) / multiple) * multiple
    return rank if rank * (out_features + in_features) < out_features * in_features else None


def truncated_svd(
    weight: Float[Tensor, "out in"], rank: int
) -> tuple[Float[Tensor, "out rank"], Float[Tensor, "rank in"]]:
    """The two factors of the nearest matrix of that rank (Eckart and Young, 1936), singular values split evenly."""
    u, s, vh = torch.linalg.svd(weight.float(), full_matrices=False)
    root = s[:rank].sqrt()
    return (u[:, :rank] * root).to(weight.dtype), (root[:, None] * vh[:rank]).to(weight.dtype)


def compress_by_svd(model: nn.Module, *, sparsity: float, rank_multiple: int, layers: Sequence[str]) -> nn.Module:
    """Replace linear layers by low-rank ones, in place.

    Args:
        model: the target model.
        sparsity: ρ, share of the layers' parameters to remove.
        rank_multiple: ranks are rounded up to a multiple of this.
        layers: ends of the names of the layers to replace.

    Raises:
        ProxyError: no layer was replaced.
    """
    n_replaced = 0
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if name not in layers or not isinstance(layer, nn.Linear):
                continue
            rank = rank_for_sparsity(layer.out_features, layer.in_features, sparsity=sparsity, multiple=rank_multiple)
            if rank is None:
                continue
            bias = None if layer.bias is None else layer.bias.detach()
            setattr(parent, name, LowRankLinear(*truncated_svd(layer.weight.detach(), rank), bias))
            n_replaced += 1
    if n_replaced == 0:
        raise ProxyError(
            f"proxy.sparsity={sparsity} with rank_multiple={rank_multiple} leaves every layer dense; "
            "raise the sparsity or lower the multiple"
        )
    return model
