"""IPSVD: truncated SVD of a weight as influence weighs it (IProX, arXiv:2602.17835, section 4).

    min over Ŵ of rank r   ‖ C_δ^½ (W − Ŵ) C_h^½ ‖_F
    C_δ = L_δ L_δᵀ         C_h = L_h L_hᵀ         S = L_δᵀ W L_h = P Σ Qᵀ
    Ŵ = U V                U = L_δ^-ᵀ P_r Σ_r^½   V = Σ_r^½ Q_rᵀ L_h^-1

The paper takes symmetric roots, which differ from L by a rotation that P and Q take back: U and V are the same.
With C_δ = I it is the activation-aware SVD of SVD-LLM (arXiv:2403.07378), with C_h = I as well the plain one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lessexp.data.tokenize import Batch
from lessexp.proxies.compression import Compression, ranks_of, report_of, weight_of
from lessexp.proxies.factors import Factors, ProxyError, Split
from lessexp.proxies.second_moments import Positions, SecondMoments, bytes_of_moments, second_moments
from lessexp.proxies.svd import relative_error

Weighing = Callable[[SecondMoments], SecondMoments]
"""The moments that a layer's weight is weighed by, from those it has."""


def by_both(moments: SecondMoments) -> SecondMoments:
    """Inputs and output gradients: IPSVD."""
    return moments


def by_inputs(moments: SecondMoments) -> SecondMoments:
    """Inputs alone: every direction of the output counts alike."""
    identity = torch.eye(len(moments.output_grads)).to(moments.output_grads)
    return SecondMoments(moments.inputs, identity, moments.n_positions)


def damped(moment: Float[Tensor, "n n"], damping: float) -> Float[Tensor, "n n"]:
    """A second moment with a share of its mean eigenvalue added to each, in float64.

    The share is relative because δ is as small as its loss averages over many tokens: an absolute term of the size that
    suits C_h would swamp C_δ.
    """
    moment = moment.double()
    return moment + damping * moment.trace() / len(moment) * torch.eye(len(moment)).to(moment)


def _root(moment: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Cholesky factor L, of which L Lᵀ is the moment; any root gives the same factors, and this one soonest.

    Raises:
        ProxyError: a pivot is not above what rounding leaves of zero.
    """
    root, failed = torch.linalg.cholesky_ex(moment)
    pivots = root.diagonal().square()
    if failed or pivots.min() <= len(pivots) * torch.finfo(pivots.dtype).eps * pivots.max():
        raise ProxyError("its second moments are singular; raise proxy.damping or proxy.probes.n_rows")
    return root


def whitened_svd(
    weight: Float[Tensor, "out in"], moments: SecondMoments, rank: int, *, damping: float
) -> tuple[Factors, Float[Tensor, " n"]]:
    """Factors of the best matrix of that rank, in float64, and the singular values of the whitened weight.

    Everything is float64, for the damping is smaller than what float32 rounds off the largest eigenvalues.

    Raises:
        ProxyError: a second moment is singular, or is made of fewer tokens than the rank.
    """
    if moments.n_positions < rank:
        raise ProxyError(
            f"rank {rank} from {moments.n_positions} tokens: the rest would be damping; raise proxy.probes.n_rows"
        )
    input_root, output_root = (_root(damped(moment, damping)) for moment in (moments.inputs, moments.output_grads))
    p, s, qt = torch.linalg.svd(output_root.T @ weight.double() @ input_root, full_matrices=False)
    root = s[:rank].sqrt()
    up = torch.linalg.solve_triangular(output_root.T, p[:, :rank] * root, upper=True)
    down = torch.linalg.solve_triangular(input_root, root[:, None] * qt[:rank], upper=False, left=False)
    return Factors(up, down), s


def ipsvd(
    model: nn.Module,
    probes: Sequence[Batch],
    *,
    sparsity: float,
    rank_multiple: int,
    layers: Sequence[str],
    damping: float,
    positions: Positions,
    weighing: Weighing,
    split: Split,
    moment_bytes: float,
) -> Compression:
    """Factors of linear layers, weighed by what passes the layers when the model reads probes.

    Args:
        model: the target model; it stays as it is.
        probes: rows to read, on the model's device.
        sparsity: ρ, share of the layers' parameters to remove.
        rank_multiple: ranks are rounded up to a multiple of this.
        layers: ends of the names of the layers to replace.
        damping: added to the second moments, as a share of their mean eigenvalue.
        positions: which tokens count.
        weighing: which second moments count.
        split: how the singular values are shared between the factors.
        moment_bytes: second moments held at once; beyond, the probes are read once more.

    Raises:
        ProxyError: a layer that cannot be decomposed; it is named. No layer is ever left out for that.
    """
    found, ranks = ranks_of(model, layers=layers, sparsity=sparsity, rank_multiple=rank_multiple)
    factors, reports = {}, {name: report_of(name, found[name], None) for name in found}
    for group in _groups({name: found[name] for name, rank in ranks.items() if rank is not None}, moment_bytes):
        moments = second_moments(model, probes, group, positions=positions)
        for name, layer in group.items():
            rank, seen = ranks[name], moments.pop(name)
            try:
                pair, values = whitened_svd(weight_of(layer), weighing(seen), rank, damping=damping)
            except (ProxyError, torch.linalg.LinAlgError) as error:
                raise ProxyError(f"{name}: {error}") from error
            factors[name] = split(pair).to(layer.weight)
            error = relative_error(values, rank)
            reports[name] = report_of(name, layer, rank, error=error, n_positions=seen.n_positions)
    return Compression(factors, list(reports.values()))


def _groups(layers: Mapping[str, nn.Linear], moment_bytes: float) -> Iterator[dict[str, nn.Linear]]:
    """Consecutive layers whose moments fit together; a larger one stands alone."""
    group: dict[str, nn.Linear] = {}
    held = 0
    for name, layer in layers.items():
        size = bytes_of_moments(layer)
        if group and held + size > moment_bytes:
            yield group
            group, held = {}, 0
        group[name] = layer
        held += size
    yield group
