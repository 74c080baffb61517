import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from lessexp.reports.agreement import spearman, top_overlap
from lessexp.reports.checkpoints import CheckpointScoresError, checkpoint_agreement


def write_scores(file, scores, ids=None):
    """Scores [n_ckpt, n_rows, n_subtask]."""
    n_checkpoints, n_rows, n_subtasks = scores.shape
    ids = ids or [f"row-{i}" for i in range(n_rows)] * n_checkpoints
    columns = {"checkpoint": [10 * (c + 1) for c in range(n_checkpoints) for _ in range(n_rows)], "example_id": ids}
    columns |= {f"subtask-{s}": scores[:, :, s].flatten().numpy() for s in range(n_subtasks)}
    pyarrow.parquet.write_table(pa.table(columns), file)
    return file


def test_agreement_is_the_mean_over_subtasks_of_pairwise_comparisons(tmp_path):
    scores = torch.randn(3, 40, 2, generator=torch.Generator().manual_seed(0))
    scores[0, :5] = scores[0, 5:10]  # ties
    found = checkpoint_agreement(write_scores(tmp_path / "scores.parquet", scores), k=7)
    assert (found.names, found.k) == (["10", "20", "30", "all"], 7)
    every = torch.cat([scores.double(), scores.double().sum(dim=0, keepdim=True)])
    for i in range(4):
        for j in range(4):
            pairs = [(every[i, :, s], every[j, :, s]) for s in range(2)]
            expected = sum(spearman(a, b) for a, b in pairs) / 2
            assert found.spearman[i, j].item() == pytest.approx(expected, abs=1e-12)
            assert found.top_overlap[i, j].item() == pytest.approx(sum(top_overlap(a, b, k=7) for a, b in pairs) / 2)


def test_a_subtask_without_a_ranking_leaves_the_others_mean(tmp_path):
    scores = torch.arange(10.0).reshape(1, 5, 2).repeat(2, 1, 1)
    scores[1, :, 1] = 3.0
    found = checkpoint_agreement(write_scores(tmp_path / "scores.parquet", scores), k=9)
    assert found.spearman[0, 1].item() == pytest.approx(1)
    assert found.k == 5
    scores[1] = 0
    assert checkpoint_agreement(write_scores(tmp_path / "scores.parquet", scores), k=2).spearman[0, 1].isnan()


def test_a_single_row_has_no_rank_correlation(tmp_path):
    found = checkpoint_agreement(write_scores(tmp_path / "scores.parquet", torch.ones(2, 1, 2)), k=1)
    assert found.spearman.isnan().all() and (found.top_overlap == 1).all()


def test_checkpoints_of_other_rows_are_refused(tmp_path):
    file = write_scores(tmp_path / "scores.parquet", torch.ones(2, 2, 1), ids=["a", "b", "b", "a"])
    with pytest.raises(CheckpointScoresError, match=r"scores\.parquet does not hold the same rows"):
        checkpoint_agreement(file, k=1)
