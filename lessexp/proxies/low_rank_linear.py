"""A linear layer with its weight in two thin factors: ``y = U (V x) + b``."""

from jaxtyping import Float
from torch import Tensor, nn


class LowRankLinear(nn.Module):
    """Stands where an ``nn.Linear`` stood; adapters attach to it as to one.

    Args:
        up: U, the left factor.
        down: V, the right factor.
        bias: of the layer it replaces.

    Raises:
        ValueError: the factors do not fit each other.
    """

    def __init__(
        self,
        up: Float[Tensor, "out rank"],
        down: Float[Tensor, "rank in"],
        bias: Float[Tensor, " out"] | None,
    ):
        super().__init__()
        if up.shape[1] != down.shape[0]:
            raise ValueError(f"factors of shapes {tuple(up.shape)} and {tuple(down.shape)} cannot be multiplied")
        self.out_features, self.rank = up.shape
        self.in_features = down.shape[1]
        self.up = nn.Parameter(up)
        self.down = nn.Parameter(down)
        self.bias = None if bias is None else nn.Parameter(bias)

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """The weight that the factors stand for, multiplied out."""
        return self.up @ self.down

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """Apply the two factors one after the other."""
        return nn.functional.linear(nn.functional.linear(x, self.down), self.up, self.bias)
