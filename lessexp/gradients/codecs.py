"""How a row of features is stored: its values in few bits, with one float32 scale for the row.

One scale a row keeps small gradients out of the coarse end of the number format. QLESS
(arXiv:2502.01703) measured how few bits selection needs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

Rows = Float[Tensor, "n proj_dim"]
Vectors = Float[Tensor, "proj_dim m"]
Products = Callable[[Shaped[Tensor, "n stored"]], Float[Tensor, "n m"]]
"""Stored values to the products of their rows, in units of their scale, with given vectors."""


@runtime_checkable
class Codec(Protocol):
    """Rows to stored values and back. Rows of zeros and rows that are not finite never get here."""

    def encode(self, rows: Rows) -> tuple[Shaped[Tensor, "n stored"], Float[Tensor, " n"]]:
        """Stored values and the scale of each row."""

    def decode(self, stored: Shaped[Tensor, "n stored"], proj_dim: int) -> Rows:
        """The rows in float32, in units of their scale."""

    def products(self, vectors: Vectors) -> Products:
        """What multiplies stored rows with ``vectors``; made once and used on many shards."""


_CACHED_BYTES = 1 << 19  # of a table; alters no number beyond rounding


def _products_of_decoded(decode_into: Callable[[Tensor, Tensor], object], vectors: Vectors) -> Products:
    """Products of rows that ``decode_into(stored, rows)`` puts into one buffer, kept from shard to shard.

    A fresh buffer of megabytes for every shard costs more in page faults than the decoding itself.
    """
    buffer = vectors.new_empty(0, len(vectors))

    def products(stored: Tensor) -> Tensor:
        nonlocal buffer
        if len(buffer) < len(stored):
            buffer = vectors.new_empty(len(stored), len(vectors))
        rows = buffer[: len(stored)]
        decode_into(stored, rows)
        return rows @ vectors

    return products


def _padded_to(multiple: int, vectors: Vectors) -> Float[Tensor, "padded_dim m"]:
    """The vectors with zeros at the places that fill up the last byte of a stored row."""
    return torch.nn.functional.pad(vectors, (0, 0, 0, -len(vectors) % multiple))


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

    def products(self, vectors: Vectors) -> Products:
        """What multiplies stored rows with ``vectors``; made once and used on many shards."""
        return _products_of_decoded(lambda stored, rows: rows.copy_(stored), vectors)


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

    def products(self, vectors: Vectors) -> Products:
        """What multiplies stored rows with ``vectors``; made once and used on many shards."""
        return _products_of_decoded(lambda stored, rows: rows.copy_(stored), vectors)


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
        rows = torch.empty(len(stored), 2 * stored.shape[1])
        self._decode_into(stored, rows)
        return rows[:, :proj_dim]

    def _decode_into(self, stored: UInt8[Tensor, "n stored"], rows: Float[Tensor, "n padded_dim"]) -> None:
        byte = torch.arange(256)
        pairs = torch.stack((byte & 15, byte >> 4), dim=1).float() - 8
        torch.index_select(pairs, 0, stored.flatten().int(), out=rows.view(-1, 2))

    def products(self, vectors: Vectors) -> Products:
        """What multiplies stored rows with ``vectors``; made once and used on many shards."""
        return _products_of_decoded(self._decode_into, _padded_to(2, vectors))


@dataclass(frozen=True)
class SignCodec:
    """One bit a value: its sign, with the row's mean magnitude as scale; eight in a byte, lowest bit first."""

    def encode(self, rows: Rows) -> tuple[Shaped[Tensor, "n stored"], Float[Tensor, " n"]]:
        """Stored values and the scale of each row."""
        scale = rows.abs().mean(dim=1)
        bits = torch.nn.functional.pad((rows >= 0).to(torch.uint8), (0, -rows.shape[1] % 8))
        weights = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8)
        return (bits.unflatten(1, (bits.shape[1] // 8, 8)) * weights).sum(dim=2, dtype=torch.uint8), scale

    def decode(self, stored: UInt8[Tensor, "n stored"], proj_dim: int) -> Rows:
        """The rows in float32, in units of their scale."""
        return torch.nn.functional.embedding(stored.int(), _signs_of_bits(8)).flatten(1)[:, :proj_dim]

    def products(self, vectors: Vectors) -> Products:
        """What multiplies stored rows with ``vectors``; made once and used on many shards.

        Nothing is decoded: four bits have sixteen values, so what they add to each product is looked up. The
        table is used a part at a time, each small enough for a core's cache, for all rows of a shard.
        """
        n_vectors = vectors.shape[1]
        aligned = torch.nn.functional.pad(_padded_to(8, vectors), (0, -n_vectors % 16))  # lines of whole 64 bytes
        table = torch.einsum("vb,qbm->qvm", _signs_of_bits(4), aligned.unflatten(0, (-1, 4)))
        parts = [part.flatten(0, 1).contiguous() for part in table.split(max(1, _CACHED_BYTES // table[0].nbytes))]

        def products(stored: Tensor) -> Tensor:
            halves = torch.stack((stored & 15, stored >> 4), dim=2).flatten(1)
            total = torch.zeros(len(stored), table.shape[2])
            for part, values in zip(parts, halves.split([len(part) // 16 for part in parts], dim=1), strict=True):
                lines = values.int() + torch.arange(0, len(part), 16, dtype=torch.int32)
                total += torch.nn.functional.embedding_bag(lines, part, mode="sum")
            return total[:, :n_vectors]

        return products


def _signs_of_bits(n_bits: int) -> Float[Tensor, "n_values n_bits"]:
    """-1 or 1 for each bit of every value that ``n_bits`` can hold, lowest bit first."""
    return ((torch.arange(1 << n_bits)[:, None] >> torch.arange(n_bits)) & 1).float() * 2 - 1


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
