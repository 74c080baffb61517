"""The fast Walsh-Hadamard transform."""

import torch
from jaxtyping import Float
from torch import Tensor


def walsh_hadamard(values: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    """Product with the Hadamard matrix of Sylvester's construction, scaled to be orthonormal.

    Args:
        values: the last axis is transformed; its length is a power of two.

    Raises:
        ValueError: the length is no power of two.
    """
    n = values.shape[-1]
    if n & (n - 1) or n == 0:
        raise ValueError(f"the Hadamard transform needs a power of two, got a length of {n}")
    half = 1
    while half < n:
        pairs = values.reshape(*values.shape[:-1], n // (2 * half), 2, half)
        first, second = pairs[..., 0, :], pairs[..., 1, :]
        values = torch.stack((first + second, first - second), dim=-2).reshape(values.shape)
        half *= 2
    return values / n**0.5
