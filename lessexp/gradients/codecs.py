"""How a row of features is stored: its values in few bits, with one float32 scale for the row.

One scale a row keeps small gradients out of the coarse end of the number format. QLESS
(arXiv:2502.01703) measured how few bits selection needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

Rows = Float[Tensor, "n proj_dim"]


@runtime_checkable
class Codec(Protocol):
    """Rows to stored values and back. Rows of zeros and rows that are not finite never get here."""

    def encode(self, rows: Rows) -> tuple[Shaped[Tensor, "n stored"], Float[Tensor, " n"]]:
        """Stored values and the scale of each row."""

    def decode(self, stored: Shaped[Tensor, "n stored"], proj_dim: int) -> Rows:
        """The rows in float32, in units of their scale."""


@dataclass(frozen=True)
class FloatCodec:
    """A floating-point format; values are relative to the row's largest."""

    dtype: torch.dtype

    def encode(self, rows: Rows) -> tuple[Shaped[Tensor, "n stored"], Float[Tensor, " n"]]:
        """Stored values and the scale of each row."""
        scale = rows.abs().amax(dim=1)
        return (rows / scale[:, None]).to(self.dtype), scale

    def decode(self, stored: Shaped[Tensor, "n stored"], proj_dim: int) -> Rows:
        """The rows in float32, in units of their scale."""
        return stored.float()


@dataclass(frozen=True)
class Int8Codec:
    """Whole numbers from -127 to 127, rounded to the nearest."""

    def encode(self, rows: Rows) -> tuple[Shaped[Tensor, "n stored"], Float[Tensor, " n"]]:
        """Stored values and the scale of each row."""
        scale = rows.abs().amax(dim=1) / 127
        return (rows / scale[:, None]).round().to(torch.int8), scale

    def decode(self, stored: Shaped[Tensor, "n stored"], proj_dim: int) -> Rows:
        """The rows in float32, in units of their scale."""
        return stored.float()


@dataclass(frozen=True)
class Int4Codec:
    """Whole numbers from -7 to 7, two in a byte, the first in the low half."""

    def encode(self, rows: Rows) -> tuple[Shaped[Tensor, "n stored"], Float[Tensor, " n"]]:
        """Stored values and the scale of each row."""
        scale = rows.abs().amax(dim=1) / 7
        values = (rows / scale[:, None]).round().to(torch.int8) + 8
        values = torch.nn.functional.pad(values.to(torch.uint8), (0, rows.shape[1] % 2))
        return values[:, 0::2] | (values[:, 1::2] << 4), scale

    def decode(self, stored: UInt8[Tensor, "n stored"], proj_dim: int) -> Rows:
        """The rows in float32, in units of their scale."""
        byte = torch.arange(256)
        pairs = torch.stack((byte & 15, byte >> 4), dim=1).float() - 8
        return torch.nn.functional.embedding(stored.int(), pairs).flatten(1)[:, :proj_dim]


@dataclass(frozen=True)
class SignCodec:
    """One bit a value: its sign, with the row's mean magnitude as scale; eight in a byte, lowest bit first."""

    def encode(self, rows: Rows) -> tuple[Shaped[Tensor, "n stored"], Float[Tensor, " n"]]:
        """Stored values and the scale of each row."""
        scale = rows.abs().mean(dim=1)
        bits = torch.nn.functional.pad((rows >= 0).to(torch.uint8), (0, -rows.shape[1] % 8))
        weights = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8)
        return (bits.view(len(rows), -1, 8) * weights).sum(dim=2, dtype=torch.uint8), scale

    def decode(self, stored: UInt8[Tensor, "n stored"], proj_dim: int) -> Rows:
        """The rows in float32, in units of their scale."""
        signs = ((torch.arange(256)[:, None] >> torch.arange(8)) & 1).float() * 2 - 1
        return torch.nn.functional.embedding(stored.int(), signs).flatten(1)[:, :proj_dim]


CODECS: dict[str, Codec] = {
    "float32": FloatCodec(torch.float32),
    "bfloat16": FloatCodec(torch.bfloat16),
    "float16": FloatCodec(torch.float16),
    "int8": Int8Codec(),
    "int4": Int4Codec(),
    "int1": SignCodec(),
}


@dataclass(frozen=True)
class EncodedRows:
    """Rows as they lie on disk.

    Attributes:
        rows: stored values.
        scale: of each row; 0 where the row is zero, NaN where it is not finite.
        norm: length of each row in units of its scale.
    """

    rows: Shaped[Tensor, "_n _stored"]
    scale: Float[Tensor, " _n"]
    norm: Float[Tensor, " _n"]


def encode(features: Rows, dtype: str) -> EncodedRows:
    """Rows in one of the `CODECS`; those without a direction are encoded as ones and marked by their scale."""
    features = features.detach().float().cpu()
    largest = features.abs().amax(dim=1)
    has_direction = largest.isfinite() & (largest > 0)
    codec = CODECS[dtype]
    rows, scale = codec.encode(torch.where(has_direction[:, None], features, 1.0))
    norm = codec.decode(rows, features.shape[1]).norm(dim=1)
    return EncodedRows(rows, torch.where(has_direction, scale, torch.where(largest == 0, 0.0, torch.nan)), norm)


def interleave(pieces: Sequence[tuple[Sequence[int], EncodedRows]]) -> EncodedRows:
    """Put rows at the given places; the places of all pieces together are 0, 1, 2 ..."""
    order = torch.tensor([place for places, _ in pieces for place in places]).argsort()
    joined = (torch.cat([getattr(piece, part) for _, piece in pieces]) for part in ("rows", "scale", "norm"))
    return EncodedRows(*(part[order] for part in joined))
