"""Two thin factors in place of a weight, and how its singular values are shared between them.

Any invertible M gives the same weight in other factors: ``U V = (U M) (M⁻¹ V)``. Outputs do not see the difference, but
gradients with respect to the factors do, and so does Adam.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lessexp.errors import UserError


class ProxyError(UserError, ValueError):
    """A proxy that cannot be made, or that would be the model itself."""


@dataclass(frozen=True)
class Factors:
    """The weight ``up @ down``.

    Attributes:
        up: U (the paper's A).
        down: V (the paper's B).

    Raises:
        ProxyError: the factors cannot be multiplied.
    """

    up: Float[Tensor, "out rank"]
    down: Float[Tensor, "rank2 in"]

    def __post_init__(self):
        if self.up.shape[1] != self.down.shape[0]:
            shapes = f"{tuple(self.up.shape)} and {tuple(self.down.shape)}"
            raise ProxyError(f"factors of shapes {shapes} cannot be multiplied")

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """The weight multiplied out."""
        return self.up @ self.down

    def to(self, weight: Float[Tensor, "out in"]) -> "Factors":
        """As they are kept: on the weight's device, in float32 or in its type if that is finer."""
        dtype = torch.promote_types(weight.dtype, torch.float32)
        return Factors(*(part.to(device=weight.device, dtype=dtype).contiguous() for part in (self.up, self.down)))


Split = Callable[[Factors], Factors]
"""Other factors of the same weight."""


def balanced(factors: Factors) -> Factors:
    """Orthogonal columns and rows, with the weight's own singular values split evenly: ``UᵀU = V Vᵀ``.

    The weight is never multiplied out: a thin QR of each factor leaves a small matrix to decompose.
    """
    up_basis, up_rest = torch.linalg.qr(factors.up)
    down_basis, down_rest = torch.linalg.qr(factors.down.T)
    left, values, right = torch.linalg.svd(up_rest @ down_rest.T)
    root = values.sqrt()
    return Factors(up_basis @ left * root, root[:, None] * (right @ down_basis.T))


def as_derived(factors: Factors) -> Factors:
    """The factors as a closed form gives them; in IPSVD the up factor is then by far the larger."""
    return factors
