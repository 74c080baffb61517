"""Two datastores to scores."""

from lessexp.influence.similarity import score, score_targets

__all__ = ["score", "score_targets"]
