"""No projection, over the parameters of a warm-up's adapter."""

from itertools import accumulate
from pathlib import Path

from lessexp.gradients.projection import IdentityProjector
from lessexp.models.lora import read_adapter
from lessexp.training.checkpoint import checkpoints_in


def identity_over_adapter(warmup: str) -> IdentityProjector:
    """All coordinates of an adapter side by side, its parameters in the order of their names.

    Args:
        warmup: folder of the warm-up checkpoints; the first says which parameters there are.
    """
    adapter = read_adapter(checkpoints_in(Path(warmup))[0])
    names = sorted(adapter)
    ends = list(accumulate(adapter[name].numel() for name in names))
    return IdentityProjector(ends[-1], seed=0, offsets=dict(zip(names, [0, *ends[:-1]], strict=True)))
