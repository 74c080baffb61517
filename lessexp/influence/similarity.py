"""Influence of pool rows on target subtasks (LESS, arXiv:2402.04333, equation 1 and section 4.2).

    score(x, s) = Σ_i η̄_i · mean_{z in s} cos(P ∇ℓ(z; θ_i), P Γ(x; θ_i))

Each subtask is summed up in one vector per checkpoint before the pool is read, so the pool passes
through one matrix product a shard and need not fit in memory.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lessexp.gradients.datastore import GradientDatastore, require_directions

SubtaskVector = Callable[[Float[Tensor, "n_val proj_dim"]], Float[Tensor, " proj_dim"]]
"""Sums up a subtask's target gradients in one vector to compare pool rows with."""

RowWeights = Callable[[Float[Tensor, " n"]], Float[Tensor, " n"]]
"""Lengths of pool rows to the weights of their directions."""


def mean_of_cosines(target_grads: Float[Tensor, "n_val proj_dim"]) -> Float[Tensor, " proj_dim"]:
    """Vector v with ``⟨v, x⟩ = mean_z cos(z, x)`` for any x of length one: the mean of the unit vectors."""
    return (target_grads / target_grads.norm(dim=1, keepdim=True)).mean(dim=0)


def cosine_of_mean(target_grads: Float[Tensor, "n_val proj_dim"]) -> Float[Tensor, " proj_dim"]:
    """Vector v with ``⟨v, x⟩ = cos(mean_z z, x)`` for any x of length one."""
    mean = target_grads.mean(dim=0)
    return mean / mean.norm()


def mean_of_gradients(target_grads: Float[Tensor, "n_val proj_dim"]) -> Float[Tensor, " proj_dim"]:
    """Vector v with ``⟨v, x⟩ = mean_z ⟨z, x⟩``: the mean."""
    return target_grads.mean(dim=0)


def equal_weights(lengths: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Every pool row counts by its direction alone, as in a cosine."""
    return torch.ones_like(lengths)


def weights_by_length(lengths: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Every pool row counts by its length too, as in a dot product; in LESS this favours short answers."""
    return lengths


def subtasks_of(target_store: GradientDatastore) -> list[str]:
    """Names of the subtasks, in the order of their first row; the last axis of `score`."""
    return list(dict.fromkeys(target_store.manifest.subtasks or []))


def score(
    pool_store: GradientDatastore,
    target_store: GradientDatastore,
    weights: Sequence[float],
    *,
    subtask_vector: SubtaskVector = mean_of_cosines,
    row_weights: RowWeights = equal_weights,
) -> Float[Tensor, "n_ckpt n_pool n_subtask"]:
    """Influence of every pool row on every subtask, checkpoint by checkpoint.

    Args:
        pool_store: directions Γ of the pool.
        target_store: plain gradients of the target, with a subtask for each row.
        weights: mean learning rate of each checkpoint's epoch; normalised here to sum 1.
        subtask_vector: how a subtask's rows are summed up.
        row_weights: what a pool row's length counts for.

    Returns:
        Weighted scores in float32; their sum over the first axis is ``score(x, s)``. Pool rows
        without a direction are NaN.

    Raises:
        ValueError: stores and weights do not belong together.
        NoDirectionError: a target row has no direction.
    """
    [scores] = score_targets(
        pool_store, [target_store], weights, subtask_vector=subtask_vector, row_weights=row_weights
    )
    return scores


def score_targets(
    pool_store: GradientDatastore,
    target_stores: Sequence[GradientDatastore],
    weights: Sequence[float],
    *,
    subtask_vector: SubtaskVector = mean_of_cosines,
    row_weights: RowWeights = equal_weights,
) -> list[Float[Tensor, "n_ckpt n_pool _n_subtask"]]:
    """What `score` gives for each of several targets, with the pool read once."""
    for target_store in target_stores:
        _check_comparable(pool_store, target_store, weights)
        require_directions(target_store)
    normalised = torch.tensor(weights, dtype=torch.float64)
    normalised = (normalised / normalised.sum()).float()
    widths = [len(subtasks_of(target_store)) for target_store in target_stores]
    scores = torch.empty(len(weights), len(pool_store.ids), sum(widths))
    for index, checkpoint in enumerate(pool_store.checkpoints):
        vectors = torch.cat([_subtask_vectors(store, checkpoint, subtask_vector) for store in target_stores])
        for held, cosines, lengths in pool_store.cosine_blocks(checkpoint, vectors.T):
            scores[index, held.start : held.stop] = normalised[index] * row_weights(lengths)[:, None] * cosines
    return list(scores.split(widths, dim=2))


def _subtask_vectors(
    target_store: GradientDatastore, checkpoint: int, subtask_vector: SubtaskVector
) -> Float[Tensor, "n_subtask proj_dim"]:
    rows = target_store.rows(checkpoint, 0, len(target_store.ids))
    return torch.stack([subtask_vector(rows[_rows_of(target_store, name)]) for name in subtasks_of(target_store)])


def _rows_of(store: GradientDatastore, subtask: str) -> list[int]:
    return [row for row, name in enumerate(store.manifest.subtasks or []) if name == subtask]


def _check_comparable(pool_store: GradientDatastore, target_store: GradientDatastore, weights: Sequence[float]) -> None:
    if not target_store.manifest.subtasks:
        raise ValueError(f"{target_store.root}: holds no subtasks, so it is not a target's store")
    if pool_store.checkpoints != target_store.checkpoints:
        raise ValueError(
            f"the pool's checkpoints are {pool_store.checkpoints}, the target's {target_store.checkpoints}"
        )
    if len(weights) != len(pool_store.checkpoints) or min(weights) < 0 or sum(weights) <= 0:
        raise ValueError(
            f"{len(pool_store.checkpoints)} checkpoints need as many weights, none negative and "
            f"not all zero; got {list(weights)}"
        )
    if pool_store.manifest.checkpoint_hashes != target_store.manifest.checkpoint_hashes:
        raise ValueError(
            f"{pool_store.root} and {target_store.root} were made at different checkpoints of the same settings; "
            "delete the older of the two folders to build it again"
        )
    for key in ("model", "lora", "warmup", "space", "projection"):
        pool_value = pool_store.manifest.provenance.get(key)
        target_value = target_store.manifest.provenance.get(key)
        if pool_value != target_value:
            raise ValueError(
                f"'{key}' is {pool_value} in the pool's store, {target_value} in the target's: not comparable"
            )
