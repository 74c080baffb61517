"""Two datastores to scores."""

from lessexp.influence.similarity import score

__all__ = ["score"]
