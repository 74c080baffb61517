"""Seeds for single purposes, derived from the seed of a run."""

import hashlib

import torch


def derived_seed(seed: int, *purpose: str | int) -> int:
    """A 56-bit seed for one purpose; other purposes, places and runs do not share its random numbers."""
    text = ":".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little")


def generator_for(seed: int, *purpose: str | int) -> torch.Generator:
    """A generator on the CPU, seeded for one purpose."""
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))
