"""Random projections that keep inner products: E⟨Px, Py⟩ = ⟨x, y⟩ over seeds.

The projection of a whole gradient is the sum of its parameters' projections, so parameters may come
one at a time and in any order. Every entry of P is a function of (seed, parameter name, index within
the parameter) alone.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from lessexp.gradients.random_bits import key_of, random_signs, random_words


@runtime_checkable
class Projector(Protocol):
    """A linear map from named gradients to rows of ``proj_dim`` numbers."""

    proj_dim: int

    def project(self, named_grads: Mapping[str, Float[Tensor, "batch *param"]]) -> Float[Tensor, "batch proj_dim"]:
        """Sum of the projections of the given parameters, in float32."""


class RademacherProjector:
    """Dense ±1/√d entries (Johnson-Lindenstrauss; the projection of the paper). The reference: slow.

    Args:
        proj_dim: d.
        seed: of P.
    """

    _entries_per_tile = 1 << 22  # bounds memory; has no part in the numbers

    def __init__(self, proj_dim: int, seed: int):
        self.proj_dim = proj_dim
        self.seed = seed

    def project(self, named_grads: Mapping[str, Float[Tensor, "batch *param"]]) -> Float[Tensor, "batch proj_dim"]:
        """Sum of the projections of the given parameters, in float32."""
        projected = [self._project_one(name, grad.flatten(1).float()) for name, grad in named_grads.items()]
        return torch.stack(projected).sum(0)

    def _project_one(self, name: str, grad: Float[Tensor, "batch n"]) -> Float[Tensor, "batch proj_dim"]:
        key = key_of(self.seed, name)
        column = torch.arange(self.proj_dim, device=grad.device)
        total = grad.new_zeros(len(grad), self.proj_dim)
        rows_per_tile = max(1, self._entries_per_tile // self.proj_dim)
        for start in range(0, grad.shape[1], rows_per_tile):
            tile = grad[:, start : start + rows_per_tile]
            row = torch.arange(start, start + tile.shape[1], device=grad.device)
            total += tile @ random_signs(key, row[:, None] * self.proj_dim + column)
        return total / self.proj_dim**0.5


class SparseSignProjector:
    """A count sketch with ``nonzeros`` entries ±1/√s in each column (Charikar et al. 2002; Kane & Nelson 2014).

    Coordinates are taken in runs of ``proj_dim``; run k of a parameter lands on the output shifted
    cyclically by a random offset, each coordinate with its own random sign. Within a run nothing collides,
    and two coordinates of different runs collide with probability 1/d, so the error of an inner product
    is at most that of dense signs while the cost is one addition a coordinate.

    Args:
        proj_dim: d.
        seed: of P.
        nonzeros: s, how many outputs each coordinate reaches.
    """

    def __init__(self, proj_dim: int, seed: int, nonzeros: int):
        self.proj_dim = proj_dim
        self.seed = seed
        self.nonzeros = nonzeros

    @cached_property
    def _pattern(self) -> dict[tuple[str, int, int, torch.device], tuple[Tensor, list[int]]]:
        return {}

    def _signs_and_shifts(
        self, name: str, copy: int, n: int, device: torch.device
    ) -> tuple[Float[Tensor, " n"], list[int]]:
        place = (name, copy, n, device)
        if place not in self._pattern:
            key = key_of(self.seed, f"{name}#{copy}")
            runs = torch.arange(-(-n // self.proj_dim))
            # Shifts take indices no coordinate has, so that they are independent of the signs.
            shifts = random_words(key, runs + (1 << 61)) % self.proj_dim
            signs = random_signs(key, torch.arange(n, device=device)) / self.nonzeros**0.5
            self._pattern[place] = signs, shifts.tolist()
        return self._pattern[place]

    def project(self, named_grads: Mapping[str, Float[Tensor, "batch *param"]]) -> Float[Tensor, "batch proj_dim"]:
        """Sum of the projections of the given parameters, in float32."""
        first = next(iter(named_grads.values()))
        total = torch.zeros(len(first), self.proj_dim, device=first.device)
        for name, grad in named_grads.items():
            flat = grad.flatten(1).float()
            for copy in range(self.nonzeros):
                signs, shifts = self._signs_and_shifts(name, copy, flat.shape[1], flat.device)
                for shift, run in zip(shifts, (flat * signs).split(self.proj_dim, dim=1), strict=True):
                    _add_shifted(total, run, shift)
        return total


def _add_shifted(total: Float[Tensor, "batch d"], run: Float[Tensor, "batch n"], shift: int) -> None:
    """Add ``run`` (at most as wide as ``total``) to ``total`` in place, starting at ``shift`` and wrapping round."""
    before_wrap = min(run.shape[1], total.shape[1] - shift)
    total[:, shift : shift + before_wrap] += run[:, :before_wrap]
    total[:, : run.shape[1] - before_wrap] += run[:, before_wrap:]


class IdentityProjector:
    """No projection: all coordinates side by side, for tests and small models.

    Args:
        proj_dim: number of coordinates of all parameters together.
        seed: not used; every projector takes the two.
        offsets: where each parameter's coordinates begin, by name.
    """

    def __init__(self, proj_dim: int, seed: int, offsets: Mapping[str, int]):
        self.proj_dim = proj_dim
        self.seed = seed
        self.offsets = offsets

    def project(self, named_grads: Mapping[str, Float[Tensor, "batch *param"]]) -> Float[Tensor, "batch proj_dim"]:
        """The given parameters at their places, zero elsewhere, in float32."""
        first = next(iter(named_grads.values()))
        total = torch.zeros(len(first), self.proj_dim, device=first.device)
        for name, grad in named_grads.items():
            flat = grad.flatten(1).float()
            total[:, self.offsets[name] : self.offsets[name] + flat.shape[1]] = flat
        return total
