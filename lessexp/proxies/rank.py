"""The rank of a layer: the same sparsity for all (IProX, arXiv:2602.17835), in multiples that suit the hardware."""

import math


def rank_for_sparsity(out_features: int, in_features: int, *, sparsity: float, multiple: int) -> int | None:
    """Rank at which two factors hold ``1 - sparsity`` of a weight's parameters, rounded up to a multiple.

    Rounding up makes the sparsity that is reached lower than the one asked for, for small layers by much.

    Returns:
        ``None`` where the rounded rank saves nothing, so that the layer stays dense. The paper does so from full rank
        on only; between the two, factors would be larger than the weight.
    """
    rank = round((1 - sparsity) * out_features * in_features / (out_features + in_features))
    rank = math.ceil(max(rank, 1) / multiple) * multiple
    return rank if rank * (out_features + in_features) < out_features * in_features else None


def reached_sparsity(out_features: int, in_features: int, rank: int) -> float:
    """Share of a weight's parameters that factors of this rank remove."""
    return 1 - rank * (out_features + in_features) / (out_features * in_features)
