"""Seeds and random numbers for single purposes, derived from the seed of a run."""

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor


def derived_seed(seed: int, *purpose: str | int) -> int:
    """A 56-bit seed for one purpose; other purposes, places and runs do not share its random numbers."""
    text = ":".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little")


def generator_for(seed: int, *purpose: str | int) -> torch.Generator:
    """A generator on the CPU, seeded for one purpose."""
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))


def uniform_of(seed: int, purpose: str, example_ids: Iterable[str]) -> Float64[Tensor, " n"]:
    """One random number above 0 and below 1 for each id, whatever other ids there are and in whatever order.

    A row keeps its number when its pool grows, shrinks or is shuffled.
    """
    hash_of_purpose = hashlib.blake2b(digest_size=8, key=derived_seed(seed, purpose).to_bytes(7, "little"))
    digests = []
    for example_id in example_ids:
        hash_of_id = hash_of_purpose.copy()
        hash_of_id.update(example_id.encode())
        digests.append(hash_of_id.digest())
    # 52 bits and a half: all of it fits a float64, so that nothing rounds to 0 or 1.
    bits = np.frombuffer(b"".join(digests), dtype="<u8") >> np.uint64(12)
    return torch.from_numpy((bits + 0.5) * 2.0**-52)
