"""Random numbers as a function of (seed, name, index): no state, so the same on any device and in any order."""

import hashlib

import torch
from jaxtyping import Float, Int
from torch import Tensor

_MASK = 0xFFFFFFFF
_BITS = 32


def key_of(seed: int, name: str) -> int:
    """A 64-bit key for one stream of numbers."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "little")


def signed(key: int) -> int:
    """The key with the same 64 bits as a tensor of int64 can hold it."""
    return key - (key >> 63 << 64)


def _mix(value: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    # The finaliser of MurmurHash3, on 32-bit values held in int64 so that products do not overflow.
    value = value ^ (value >> 16)
    value = (value * 0x85EBCA6B) & _MASK
    value = value ^ (value >> 13)
    value = (value * 0xC2B2AE35) & _MASK
    return value ^ (value >> 16)


def random_words(key: int | Int[Tensor, "#*shape"], index: Int[Tensor, "#*shape"]) -> Int[Tensor, "*shape"]:
    """32 random bits for each index (below 2**62), as int64; keys in a tensor are `signed`."""
    low, high = index & _MASK, index >> 32
    # Half of the key enters after the first round: with one exclusive-or alone, streams would permute each other.
    return _mix(_mix(low ^ (key & _MASK)) ^ ((high * 0x9E3779B9 + (key >> 32)) & _MASK))


def _signs_of(words: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape bits"]:
    """The bits of each word as -1 and +1, lowest first, looked up a byte at a time."""
    signs_of_byte = ((torch.arange(256)[:, None] >> torch.arange(8)) & 1).float() * 2 - 1
    octets = (words[..., None] >> torch.arange(0, _BITS, 8, device=words.device)) & 0xFF
    return torch.nn.functional.embedding(octets.int(), signs_of_byte.to(words.device)).flatten(-2)


def random_signs(key: int, start: int, stop: int, *, device: torch.device | str = "cpu") -> Float[Tensor, " n"]:
    """+1 or -1 for each index from ``start`` to ``stop``, as float32: the bits of consecutive words."""
    first, last = start // _BITS, -(-stop // _BITS)
    signs = _signs_of(random_words(key, torch.arange(first, last, device=device))).flatten()
    return signs[start - first * _BITS : stop - first * _BITS]


def random_sign_matrix(key: int, rows: Int[Tensor, " n"], n_columns: int) -> Float[Tensor, "n columns"]:
    """+1 or -1 for each row and column; a narrower matrix is the first columns of a wider one."""
    words_per_row = -(-n_columns // _BITS)
    # Rows start at multiples of 2**20 words, so no width that fits in memory reaches the next row.
    index = rows[:, None] * (1 << 20) + torch.arange(words_per_row, device=rows.device)
    return _signs_of(random_words(key, index)).flatten(1)[:, :n_columns]
