"""What a stage costs: seconds and peak memory of this process."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

_SAMPLE_SECONDS = 0.05


@dataclass
class Cost:
    """Filled in when the measured block ends.

    Attributes:
        seconds: wall clock.
        peak_memory_bytes: resident memory plus, with CUDA, allocated device memory.
    """

    seconds: float = 0.0
    peak_memory_bytes: int = 0


@contextlib.contextmanager
def measure() -> Iterator[Cost]:
    """Measure the block; memory is sampled, so a peak shorter than a sample may be missed."""
    cost = Cost()
    process = psutil.Process()
    finished = threading.Event()

    def sample() -> None:
        while True:
            cost.peak_memory_bytes = max(cost.peak_memory_bytes, process.memory_info().rss)
            if finished.wait(_SAMPLE_SECONDS):
                return

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    sampler = threading.Thread(target=sample, daemon=True)
    started = time.perf_counter()
    sampler.start()
    try:
        yield cost
    finally:
        finished.set()
        sampler.join()
        cost.seconds = time.perf_counter() - started
        if torch.cuda.is_available():
            cost.peak_memory_bytes += torch.cuda.max_memory_allocated()


def bytes_in(folder: Path) -> int:
    """Size of all files below a folder; files and folders that disappear meanwhile do not count."""
    total = 0
    for place, _, names in os.walk(folder):  # which passes over what it cannot open
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(place, name)).st_size
    return total


def training_flops(n_parameters: int, n_tokens: int) -> float:
    """Estimate for forward and backward through frozen weights: 2 N forward and 2 N backward a token."""
    return 4.0 * n_parameters * n_tokens


def full_training_flops(n_parameters: int, n_tokens: int) -> float:
    """Estimate where all weights are trained: 2 N a token more, for their gradients."""
    return 6.0 * n_parameters * n_tokens


def forward_flops(n_parameters: int, n_tokens: int) -> float:
    """Estimate for a forward pass: 2 N a token."""
    return 2.0 * n_parameters * n_tokens
