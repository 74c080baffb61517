"""How far the checkpoints of a gradient selector agree on which rows are useful."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet
import torch
from jaxtyping import Float64
from torch import Tensor

from lessexp.errors import UserError
from lessexp.reports.agreement import average_ranks

CHECKPOINT_SCORES = "scores_by_checkpoint.parquet"


class CheckpointScoresError(UserError, ValueError):
    """A file of scores whose checkpoints do not hold the same rows; the message names it."""


@dataclass(frozen=True)
class CheckpointAgreement:
    """Agreement of every two checkpoints, and of each with the sum of all; each the mean over the subtasks.

    Attributes:
        names: of the checkpoints, then ``all``.
        spearman: rank correlation of the scores; NaN where a checkpoint scores all rows alike for every subtask.
        top_overlap: share of the ``k`` best rows that both name.
        k: rows.
    """

    names: list[str]
    spearman: Float64[Tensor, "n n"]
    top_overlap: Float64[Tensor, "n n"]
    k: int


def checkpoint_agreement(file: Path, *, k: int) -> CheckpointAgreement:
    """Compare the checkpoints of ``scores_by_checkpoint.parquet``, one subtask at a time.

    Args:
        file: one line for each checkpoint and row, checkpoint by checkpoint.
        k: how many of the best rows to compare.

    Raises:
        CheckpointScoresError: the checkpoints do not hold the same rows in the same order.
    """
    table = pyarrow.parquet.read_table(file, columns=["checkpoint", "example_id"])
    checkpoints, first_lines = np.unique(table["checkpoint"].to_numpy(), return_index=True)
    n_rows = table.num_rows // len(checkpoints)
    starts = sorted(first_lines.tolist())
    parts = [table["example_id"].slice(start, n_rows) for start in starts]
    if starts != list(range(0, table.num_rows, n_rows)) or not all(part.equals(parts[0]) for part in parts):
        raise CheckpointScoresError(
            f"{file} does not hold the same rows for every checkpoint; run the selection again to write it anew"
        )
    names = [str(table["checkpoint"][start]) for start in starts] + ["all"]
    subtasks = pyarrow.parquet.read_schema(file).names[2:]
    ranks = torch.zeros(len(names), len(names), dtype=torch.float64)
    n_ranked = torch.zeros_like(ranks)
    overlaps = torch.zeros_like(ranks)
    for subtask in subtasks:
        column = pyarrow.parquet.read_table(file, columns=[subtask])[subtask].to_numpy()
        scores = torch.from_numpy(column.astype(np.float64)).reshape(len(checkpoints), n_rows)
        scores = torch.cat([scores, scores.sum(dim=0, keepdim=True)])
        if n_rows == 1:
            correlations = torch.full_like(ranks, torch.nan)
        else:
            correlations = torch.corrcoef(torch.stack([average_ranks(row) for row in scores]))
        n_ranked += ~correlations.isnan()
        ranks += correlations.nan_to_num()
        overlaps += _overlaps(scores, min(k, n_rows))
    return CheckpointAgreement(names, ranks / n_ranked, overlaps / len(subtasks), min(k, n_rows))


def _overlaps(scores: Float64[Tensor, "n n_rows"], k: int) -> Float64[Tensor, "n n"]:
    best = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
    is_best = torch.zeros(scores.shape, dtype=torch.float32).scatter_(1, best, 1.0)
    return (is_best @ is_best.T).double() / k
