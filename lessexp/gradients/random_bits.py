"""Random numbers as a function of (seed, name, index): no state, so the same on any device and in any order."""

import hashlib

from jaxtyping import Float, Int
from torch import Tensor

_MASK = 0xFFFFFFFF


def key_of(seed: int, name: str) -> int:
    """A 32-bit key for one stream of numbers."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:4], "little")


def _mix(value: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    # The finaliser of MurmurHash3, on 32-bit values held in int64 so that products do not overflow.
    value = value ^ (value >> 16)
    value = (value * 0x85EBCA6B) & _MASK
    value = value ^ (value >> 13)
    value = (value * 0xC2B2AE35) & _MASK
    return value ^ (value >> 16)


def random_words(key: int, index: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """32 random bits for each index (below 2**62), as int64."""
    low, high = index & _MASK, index >> 32
    return _mix(_mix(low ^ key) ^ ((high * 0x9E3779B9 + 0x7F4A7C15) & _MASK))


def random_signs(key: int, index: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """+1 or -1 for each index, as float32."""
    return (random_words(key, index) >> 31).float() * 2 - 1
