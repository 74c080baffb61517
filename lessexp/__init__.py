"""LESS data selection (arXiv:2402.04333) and its baselines as experiments."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lessexp.api import Selection, select

__version__ = "0.1.0"
__all__ = ["Selection", "select"]


def __getattr__(name: str) -> Any:
    """`select` and what it returns, imported when they are first asked for, since that takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module 'lessexp' has no attribute '{name}'")
    from lessexp import api

    return getattr(api, name)
