"""A linear layer with its weight in two thin factors: ``y = U (V x) + b``."""

from jaxtyping import Float
from torch import Tensor, nn

from lessexp.proxies.factors import Factors


class LowRankLinear(nn.Module):
    """Stands where an ``nn.Linear`` stood; adapters attach to it as to one.

    Both factors are linear layers themselves, so whatever takes gradients of linear layers can take theirs.

    Args:
        factors: U and V.
        bias: of the layer it replaces.
    """

    def __init__(self, factors: Factors, bias: Float[Tensor, " out"] | None):
        super().__init__()
        self.out_features, self.rank = factors.up.shape
        self.in_features = factors.down.shape[1]
        self.down = _linear(factors.down)
        self.up = _linear(factors.up)
        self.bias = None if bias is None else nn.Parameter(bias)

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """The weight that the factors stand for, multiplied out."""
        return self.up.weight @ self.down.weight

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """Apply the two factors one after the other."""
        product = self.up(self.down(x))
        return product if self.bias is None else product + self.bias


def _linear(weight: Float[Tensor, "out in"]) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")  # no values are drawn
    layer.weight = nn.Parameter(weight)
    return layer


def low_rank_layers(model: nn.Module) -> dict[str, LowRankLinear]:
    """The low-rank layers of a proxy by name, in the model's order."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, LowRankLinear)}
