"""LESS data selection (arXiv:2402.04333) and its baselines as experiments."""

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lessexp.api import Selection, select

__version__ = "0.1.0"
__all__ = ["Selection", "select"]

# On some CPUs bitsandbytes warns, as peft imports it, that it lacks a kernel; its layers here never use that one.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def __getattr__(name: str) -> Any:
    """`select` and what it returns, imported when they are first asked for, since that takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module 'lessexp' has no attribute '{name}'")
    from lessexp import api

    return getattr(api, name)
