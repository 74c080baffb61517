"""What makes a proxy of a model: the factors of its layers, and a report on each of them.

``factors.safetensors`` holds ``<layer>.up`` and ``<layer>.down``, ``report.json`` one record a layer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from lessexp.files import read_json, write_json, written_whole
from lessexp.models.linear_layers import layers_named, refuse_unknown_layers
from lessexp.models.tensor_files import read_tensors
from lessexp.proxies.factors import Factors, ProxyError
from lessexp.proxies.low_rank_linear import LowRankLinear
from lessexp.proxies.rank import rank_for_sparsity, reached_sparsity

FACTORS_FILE = "factors.safetensors"
REPORT_FILE = "report.json"


@dataclass(frozen=True)
class LayerReport:
    """What became of a layer.

    Attributes:
        name: of the layer.
        out_features: rows of its weight.
        in_features: columns of its weight.
        rank: of its factors; ``None`` where it stays dense.
        sparsity: share of the weight's parameters that is gone.
        error: norm of what the factors miss over the norm of the weight, both as the method weighs them.
        n_positions: tokens behind the weighing; ``None`` where there is none.
    """

    name: str
    out_features: int
    in_features: int
    rank: int | None
    sparsity: float
    error: float
    n_positions: int | None

    @property
    def flops(self) -> float:
        """Estimate for its factors, passes of the model apart (Golub and Van Loan, Matrix Computations, 4th ed.).

        With l ≥ s for the weight's sides: 6 l s² + 20 s³ for the SVD (figure 8.6.1). A weighed layer takes 2 n² a token
        more for a second moment of width n, n³/3 for its Cholesky factor, the products with both factors and, from what
        is kept of the SVD, back through them.
        """
        if self.rank is None:
            return 0.0
        short, long = sorted((self.out_features, self.in_features))
        decomposition = 6 * long * short**2 + 20 * short**3
        if self.n_positions is None:
            return float(decomposition)
        squares, cubes = short**2 + long**2, short**3 + long**3
        products = 2 * short * long * (short + long) + self.rank * squares
        return decomposition + 2 * self.n_positions * squares + cubes / 3 + products


@dataclass(frozen=True)
class Compression:
    """Factors by layer name, and a report on every layer that was considered."""

    factors: Mapping[str, Factors]
    layers: Sequence[LayerReport]

    @property
    def sparsity(self) -> float:
        """Share of the considered layers' parameters that is gone."""
        sizes = [layer.out_features * layer.in_features for layer in self.layers]
        gone = sum(size * layer.sparsity for size, layer in zip(sizes, self.layers, strict=True))
        return gone / sum(sizes)


def weight_of(layer: nn.Linear) -> Float[Tensor, "out in"]:
    """A layer's weight, in the precision in which it is decomposed."""
    return layer.weight.detach().double()  # one weight is small next to what decomposing it takes


def ranks_of(
    model: nn.Module, *, layers: Sequence[str], sparsity: float, rank_multiple: int
) -> tuple[dict[str, nn.Linear], dict[str, int | None]]:
    """The layers of these names, and the rank of each; ``None`` for those that stay dense.

    Raises:
        NoSuchLayerError: no layer has one of these names.
        ProxyError: one is of another kind, or all of them stay dense.
    """
    refuse_unknown_layers([model], layers, key="proxy.layers")
    found = layers_named(model, layers)
    for name, layer in found.items():
        if not isinstance(layer, nn.Linear):  # GPT-2's Conv1D, say, keeps its weight transposed
            raise ProxyError(f"{name} is a {type(layer).__name__}; proxy.layers may name nn.Linear layers only")
    ranks = {
        name: rank_for_sparsity(layer.out_features, layer.in_features, sparsity=sparsity, multiple=rank_multiple)
        for name, layer in found.items()
    }
    if not any(ranks.values()):
        raise ProxyError(
            f"proxy.sparsity={sparsity} with rank_multiple={rank_multiple} leaves every layer dense; "
            "raise the sparsity or lower the multiple"
        )
    return found, ranks


def report_of(
    name: str, layer: nn.Linear, rank: int | None, *, error: float = 0.0, n_positions: int | None = None
) -> LayerReport:
    """The record of a layer."""
    shape = (layer.out_features, layer.in_features)
    sparsity = 0.0 if rank is None else reached_sparsity(*shape, rank)
    return LayerReport(name, *shape, rank, sparsity, error, n_positions)


def write_compression(folder: Path, compression: Compression) -> None:
    """Write both files."""
    tensors = {
        f"{name}.{part}": getattr(factors, part).contiguous().cpu()
        for name, factors in compression.factors.items()
        for part in ("up", "down")
    }
    with written_whole(folder / FACTORS_FILE) as partial:
        save_file(tensors, partial)
    layers = [asdict(layer) for layer in compression.layers]
    write_json(folder / REPORT_FILE, {"sparsity": compression.sparsity, "layers": layers})


def read_compression(folder: Path) -> Compression:
    """Read what `write_compression` wrote.

    Raises:
        MissingFileError: one of both files is not there.
        DamagedFileError: one of both cannot be read.
    """
    tensors = read_tensors(folder / FACTORS_FILE)
    layers = [LayerReport(**layer) for layer in read_json(folder / REPORT_FILE)["layers"]]
    names = [layer.name for layer in layers if layer.rank is not None]
    return Compression({name: Factors(tensors[f"{name}.up"], tensors[f"{name}.down"]) for name in names}, layers)


def replace_layers(model: nn.Module, factors: Mapping[str, Factors]) -> nn.Module:
    """Put low-rank layers where linear ones stand, in place, under their names and with their biases.

    Raises:
        ProxyError: a layer is missing, is of another kind or shape, or a factor holds a value that is not finite.
    """
    modules = dict(model.named_modules())
    for name, pair in factors.items():
        layer = modules.get(name)
        if not isinstance(layer, nn.Linear) or layer.weight.shape != (pair.up.shape[0], pair.down.shape[1]):
            shape = (pair.up.shape[0], pair.down.shape[1])
            raise ProxyError(f"{name}: the proxy has factors of a linear layer {shape}, the model has {layer}")
        up, down = (factor.to(layer.weight) for factor in (pair.up, pair.down))
        if not (torch.isfinite(up).all() and torch.isfinite(down).all()):
            raise ProxyError(f"{name}: its factors are not finite as {layer.weight.dtype}; set model.dtype=float32")
        bias = None if layer.bias is None else layer.bias.detach()
        parent, _, last = name.rpartition(".")
        setattr(modules[parent], last, LowRankLinear(Factors(up, down), bias))
    return model
