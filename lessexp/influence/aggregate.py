"""One score for each pool row from its scores for each subtask; of equal rows the first is preferred."""

import torch
from jaxtyping import Float
from torch import Tensor

Aggregate = Float[Tensor, " n_pool"]


def max_of_subtask_means(by_subtask: Float[Tensor, "n_pool n_subtask"]) -> Aggregate:
    """The best subtask counts (LESS, arXiv:2402.04333, section 4.2)."""
    return by_subtask.amax(dim=1)


def mean(by_subtask: Float[Tensor, "n_pool n_subtask"]) -> Aggregate:
    """All subtasks count alike."""
    return by_subtask.mean(dim=1)


def round_robin(by_subtask: Float[Tensor, "n_pool n_subtask"]) -> Aggregate:
    """Subtasks take turns, each picking its best row that is left (RDS+, arXiv:2503.01807).

    Returns:
        Scores that fall by one from pick to pick, so that the top k are the first k picks.
    """
    n_subtasks = by_subtask.shape[1]
    return _scores_of_picks(by_subtask, lambda n_picked, _gain: n_picked % n_subtasks)


def balanced(by_subtask: Float[Tensor, "n_pool n_subtask"]) -> Aggregate:
    """The subtask that has gained least so far picks its best row that is left.

    A row's gains are its scores, normalised for each subtask to mean 0 and variance 1 over the pool; a
    picked row adds its gains to all subtasks. In the manner of BIDS (arXiv:2501.12147), which normalises
    for each validation example and weighs gain against the mean of what is picked.

    Returns:
        Scores that fall by one from pick to pick, so that the top k are the first k picks.
    """
    spread = by_subtask.std(dim=0, correction=0)
    normalised = (by_subtask - by_subtask.mean(dim=0)) / torch.where(spread > 0, spread, 1.0)
    return _scores_of_picks(normalised, lambda _n_picked, gain: int(gain.argmin()))


def _scores_of_picks(preference: Float[Tensor, "n_pool n_subtask"], next_subtask) -> Aggregate:
    """Pick every row once: ``next_subtask(number of picks, summed preferences)`` says who picks."""
    order = preference.sort(dim=0, descending=True, stable=True).indices.T.tolist()
    gains = preference.double().numpy()
    scores = torch.zeros(len(preference))
    picked = [False] * len(preference)
    place = [0] * len(order)
    gained = gains[:0].sum(axis=0)
    for n_picked in range(len(preference)):
        subtask = next_subtask(n_picked, gained)
        while picked[row := order[subtask][place[subtask]]]:
            place[subtask] += 1
        picked[row] = True
        scores[row] = -n_picked
        gained += gains[row]
    return scores
