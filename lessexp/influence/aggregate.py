"""One score for each pool row from its scores for each subtask."""

from jaxtyping import Float
from torch import Tensor


def max_of_subtask_means(by_subtask: Float[Tensor, "n_pool n_subtask"]) -> Float[Tensor, " n_pool"]:
    """The best subtask counts (LESS, arXiv:2402.04333, section 4.2)."""
    return by_subtask.amax(dim=1)


def mean(by_subtask: Float[Tensor, "n_pool n_subtask"]) -> Float[Tensor, " n_pool"]:
    """All subtasks count alike."""
    return by_subtask.mean(dim=1)
