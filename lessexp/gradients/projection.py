"""Random projections that keep inner products: E⟨Px, Py⟩ = ⟨x, y⟩ over seeds.

The projection of a whole gradient is the sum of its parameters' projections, and that of a parameter the
sum over its tiles, so blocks may come one at a time and in any order. Every entry of P is a function of
(seed, parameter name, index within the parameter) alone.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lessexp.gradients.hadamard import walsh_hadamard
from lessexp.gradients.random_bits import key_of, random_sign_matrix, random_signs, random_words, signed

NamedGrads = Mapping[str, Float[Tensor, "batch *param"]]


@runtime_checkable
class Projector(Protocol):
    """A linear map from named gradients to rows of ``proj_dim`` numbers."""

    proj_dim: int

    def project(self, named_grads: NamedGrads) -> Float[Tensor, "batch proj_dim"]:
        """Sum of the projections of the given parameters, in float32."""

    def add(
        self, total: Float[Tensor, "batch proj_dim"], name: str, start: int, tile: Float[Tensor, "batch n"]
    ) -> None:
        """Add to ``total`` the projection of a parameter's coordinates from ``start`` on."""


def _project(projector: Projector, named_grads: NamedGrads) -> Float[Tensor, "batch proj_dim"]:
    """All of ``project`` that the projectors share: every parameter as one tile."""
    first = next(iter(named_grads.values()))
    total = torch.zeros(len(first), projector.proj_dim, device=first.device)
    for name, grad in named_grads.items():
        projector.add(total, name, 0, grad.flatten(1).float())
    return total


def _runs(start: int, n: int, width: int) -> Iterator[tuple[int, int, slice]]:
    """Cut coordinates at multiples of ``width``: number of the run, offset within it, place in the tile."""
    position = start
    while position < start + n:
        run, offset = divmod(position, width)
        stop = min(start + n, (run + 1) * width)
        yield run, offset, slice(position - start, stop - start)
        position = stop


@cache
def _fused_kernel(device: torch.device) -> Callable[..., None] | None:
    """The kernel that multiplies by signs without storing them; None where torch is to do the same sums."""
    if device.type != "cuda":
        return None
    if torch.cuda.get_device_capability(device) < (8, 0):
        reason = "it multiplies in bfloat16, which this GPU (compute capability below 8.0) cannot"
    else:
        try:
            from lessexp.gradients.rademacher_triton import add_projection

            return add_projection
        except ImportError as error:
            reason = f"Triton cannot be imported ({error}); install it with `pip install triton`"
    warnings.warn(
        f"The dense projection runs on {device} without its fast kernel: {reason}.", UserWarning, stacklevel=2
    )
    return None


class RademacherProjector:
    """Dense ±1/√d entries (Johnson-Lindenstrauss; the projection of the paper). The reference: slow on a CPU.

    The entries of a smaller d are the first columns of a larger one's. On a GPU with Triton one kernel draws
    the signs as it multiplies; its sums differ from torch's by float32 rounding.

    Args:
        proj_dim: d.
        seed: of P.
    """

    _entries_per_tile = 1 << 22  # bounds memory; has no part in the numbers

    def __init__(self, proj_dim: int, seed: int):
        self.proj_dim = proj_dim
        self.seed = seed

    def project(self, named_grads: NamedGrads) -> Float[Tensor, "batch proj_dim"]:
        """Sum of the projections of the given parameters, in float32."""
        return _project(self, named_grads)

    def add(
        self, total: Float[Tensor, "batch proj_dim"], name: str, start: int, tile: Float[Tensor, "batch n"]
    ) -> None:
        """Add to ``total`` the projection of a parameter's coordinates from ``start`` on."""
        key = key_of(self.seed, name)
        add_projection = _fused_kernel(tile.device)
        if add_projection is not None:
            add_projection(total, tile, key=key, start=start)
            return
        rows_at_once = max(1, self._entries_per_tile // self.proj_dim)
        for first in range(0, tile.shape[1], rows_at_once):
            part = tile[:, first : first + rows_at_once]
            rows = torch.arange(start + first, start + first + part.shape[1], device=tile.device)
            total.addmm_(part, random_sign_matrix(key, rows, self.proj_dim), alpha=self.proj_dim**-0.5)


class SparseSignProjector:
    """A count sketch with ``nonzeros`` entries ±1/√s in each column (Charikar et al. 2002; Kane & Nelson 2014).

    Coordinates are taken in runs of ``proj_dim``; run k of a parameter lands on the output shifted
    cyclically by a random offset, each coordinate with its own random sign. Within a run nothing collides,
    and two coordinates of different runs collide with probability 1/d, so the error of an inner product
    is at most that of dense signs while the cost is one addition a coordinate and non-zero.

    Args:
        proj_dim: d.
        seed: of P.
        nonzeros: s, how many outputs each coordinate reaches.

    Raises:
        ValueError: ``nonzeros`` is no whole number of 1 or more.
    """

    def __init__(self, proj_dim: int, seed: int, nonzeros: int):
        if not isinstance(nonzeros, int) or nonzeros < 1:
            raise ValueError(f"nonzeros should be a whole number of 1 or more, got {nonzeros!r}")
        self.proj_dim = proj_dim
        self.seed = seed
        self.nonzeros = nonzeros
        self._signs: dict[tuple[str, int, int, int, torch.device], Tensor] = {}
        self._shifts: dict[tuple[str, int, int], int] = {}

    def _sign_tile(self, name: str, copy: int, start: int, n: int, device: torch.device) -> Float[Tensor, " n"]:
        place = (name, copy, start, n, device)
        if place not in self._signs:
            signs = random_signs(key_of(self.seed, f"{name}#{copy}"), start, start + n, device=device)
            self._signs[place] = signs / self.nonzeros**0.5
        return self._signs[place]

    def _shift(self, name: str, copy: int, run: int) -> int:
        place = (name, copy, run)
        if place not in self._shifts:
            word = random_words(key_of(self.seed, f"{name}#{copy}#shift"), torch.tensor([run]))
            self._shifts[place] = word.item() % self.proj_dim
        return self._shifts[place]

    def project(self, named_grads: NamedGrads) -> Float[Tensor, "batch proj_dim"]:
        """Sum of the projections of the given parameters, in float32."""
        return _project(self, named_grads)

    def add(
        self, total: Float[Tensor, "batch proj_dim"], name: str, start: int, tile: Float[Tensor, "batch n"]
    ) -> None:
        """Add to ``total`` the projection of a parameter's coordinates from ``start`` on."""
        for copy in range(self.nonzeros):
            signed = tile * self._sign_tile(name, copy, start, tile.shape[1], tile.device)
            for run, offset, place in _runs(start, tile.shape[1], self.proj_dim):
                target = (self._shift(name, copy, run) + offset) % self.proj_dim
                before_wrap = min(place.stop, place.start + self.proj_dim - target)
                n_before = before_wrap - place.start
                total[:, target : target + n_before] += signed[:, place.start : before_wrap]
                if before_wrap < place.stop:
                    total[:, : place.stop - before_wrap] += signed[:, before_wrap : place.stop]


class SRHTProjector:
    """Subsampled randomised Hadamard transform of each run of coordinates (Ailon & Chazelle 2009; Tropp 2011).

    A run is as long as the power of two at or above ``proj_dim``. It is multiplied by random signs,
    mixed by a Hadamard transform, thinned out to ``proj_dim`` random places and given new signs, so that
    what lands on one place from different runs is unrelated.

    Args:
        proj_dim: d.
        seed: of P.
    """

    _coordinates_at_once = 1 << 16  # bounds memory; has no part in the numbers

    def __init__(self, proj_dim: int, seed: int):
        self.proj_dim = proj_dim
        self.seed = seed
        self._run_length = 1 << max(proj_dim - 1, 0).bit_length()

    def _orders(self, name: str, runs: range) -> Int[Tensor, "runs proj_dim"]:
        keys = torch.tensor([signed(key_of(self.seed, f"{name}#places{run}")) for run in runs])
        # Sorting random words (ties by index) is a permutation that any device computes alike.
        words = random_words(keys[:, None], torch.arange(self._run_length))
        return words.argsort(dim=1, stable=True)[:, : self.proj_dim]

    def project(self, named_grads: NamedGrads) -> Float[Tensor, "batch proj_dim"]:
        """Sum of the projections of the given parameters, in float32."""
        return _project(self, named_grads)

    def add(
        self, total: Float[Tensor, "batch proj_dim"], name: str, start: int, tile: Float[Tensor, "batch n"]
    ) -> None:
        """Add to ``total`` the projection of a parameter's coordinates from ``start`` on."""
        n_at_once = max(1, self._coordinates_at_once // self._run_length) * self._run_length
        for group, offset, place in _runs(start, tile.shape[1], n_at_once):
            first = group * n_at_once + offset - offset % self._run_length
            padding = (offset % self._run_length, -(offset + place.stop - place.start) % self._run_length)
            self._add_runs(total, name, first // self._run_length, torch.nn.functional.pad(tile[:, place], padding))

    def _add_runs(
        self, total: Float[Tensor, "batch proj_dim"], name: str, first: int, coordinates: Float[Tensor, "batch n"]
    ) -> None:
        length, dim, device = self._run_length, self.proj_dim, coordinates.device
        runs = range(first, first + coordinates.shape[1] // length)
        signs = random_signs(key_of(self.seed, f"{name}#before"), first * length, runs.stop * length, device=device)
        mixed = walsh_hadamard((coordinates * signs).unflatten(1, (len(runs), length)))
        orders = self._orders(name, runs).to(device).expand(len(mixed), -1, -1)
        signs = random_signs(key_of(self.seed, f"{name}#after"), first * dim, runs.stop * dim, device=device)
        kept = mixed.gather(2, orders) * (length / dim) ** 0.5 * signs.unflatten(0, (len(runs), dim))
        for run in kept.unbind(1):  # one by one, as the order of a sum decides its rounding
            total += run


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

    def project(self, named_grads: NamedGrads) -> Float[Tensor, "batch proj_dim"]:
        """The given parameters at their places, zero elsewhere, in float32."""
        return _project(self, named_grads)

    def add(
        self, total: Float[Tensor, "batch proj_dim"], name: str, start: int, tile: Float[Tensor, "batch n"]
    ) -> None:
        """Add the coordinates at their place."""
        place = self.offsets[name] + start
        total[:, place : place + tile.shape[1]] += tile


class ProjectorStack:
    """Several projectors fed by one pass: their outputs side by side.

    Args:
        projectors: in the order of their outputs.
    """

    def __init__(self, projectors: Sequence[Projector]):
        self.projectors = list(projectors)
        self.proj_dim = sum(projector.proj_dim for projector in projectors)

    def split(self, projected: Float[Tensor, "batch proj_dim"]) -> tuple[Tensor, ...]:
        """Each projector's own output."""
        return projected.split([projector.proj_dim for projector in self.projectors], dim=1)

    def project(self, named_grads: NamedGrads) -> Float[Tensor, "batch proj_dim"]:
        """All projections of the given parameters, in float32."""
        return _project(self, named_grads)

    def add(
        self, total: Float[Tensor, "batch proj_dim"], name: str, start: int, tile: Float[Tensor, "batch n"]
    ) -> None:
        """Add to each projector's part of ``total``."""
        for projector, part in zip(self.projectors, self.split(total), strict=True):
            projector.add(part, name, start, tile)
