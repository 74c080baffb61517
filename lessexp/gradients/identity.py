"""No projection, over the parameters of a warm-up's adapter."""

from itertools import accumulate
from pathlib import Path

from lessexp.gradients.projection import IdentityProjector
from lessexp.models.lora import read_adapter


def identity_over_adapter(checkpoint: Path) -> IdentityProjector:
    """All coordinates of an adapter side by side, its parameters in the order of their names.

    Args:
        checkpoint: folder of one checkpoint, which says which parameters there are.
    """
    adapter = read_adapter(checkpoint)
    names = sorted(adapter)
    ends = list(accumulate(adapter[name].numel() for name in names))
    return IdentityProjector(ends[-1], seed=0, offsets=dict(zip(names, [0, *ends[:-1]], strict=True)))
