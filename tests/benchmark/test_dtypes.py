import io

import pytest
import torch
from rich.console import Console

from lessexp.benchmark import dtypes, subject
from lessexp.gradients.codecs import CODECS
from lessexp.reports.agreement import spearman
from tests.conftest import make_rows

SUBTASKS = ["sums", "words", "sums", "words", "sums"]


def random_features(n, prefix, seed, width=48):
    rows = torch.randn(n, width, generator=torch.Generator().manual_seed(seed))
    return dtypes.Features([f"{prefix}-{index}" for index in range(n)], rows)


def brute_force_scores(dtype, pool, target):
    """Best subtask's mean cosine, row by row, after the codec's own rounding."""

    def rounded(row):
        stored, scale = CODECS[dtype].encode(row[None])
        return (CODECS[dtype].decode(stored, len(row)) * scale[:, None])[0]

    scores = []
    for row in pool.rows:
        cosines = [torch.cosine_similarity(rounded(row), rounded(other), dim=0).item() for other in target.rows]
        means = [
            sum(cosine for cosine, own in zip(cosines, SUBTASKS, strict=True) if own == subtask)
            / SUBTASKS.count(subtask)
            for subtask in set(SUBTASKS)
        ]
        scores.append(max(means))
    return torch.tensor(scores)


def test_rankings_agree_as_a_brute_force_over_the_rounded_rows_says():
    # Wide rows, for signs of few coordinates agree equally often in many rows, and rounding decides between those.
    pool, target = random_features(40, "pool", 0, width=48_000), random_features(5, "target", 1, width=48_000)
    results = dtypes.agreement(pool, target, SUBTASKS)
    exact = brute_force_scores("float32", pool, target)
    for dtype in CODECS:
        found = brute_force_scores(dtype, pool, target)
        # A pair of rows that still ties, ranked the other way round, changes it by at most 12 * 39 / (40 * 1599).
        assert results[f"spearman_{dtype}"] == pytest.approx(spearman(found, exact), abs=0.0074)
        shared = set(found.topk(2).indices.tolist()) & set(exact.topk(2).indices.tolist())
        assert results[f"top_5_percent_overlap_{dtype}"] == len(shared) / 2
    assert results["spearman_float32"] == pytest.approx(1)
    assert results["spearman_int1"] < results["spearman_int4"] < results["spearman_int8"]
    assert (results["n_pool"], results["n_target"], results["n_subtasks"]) == (40, 5, 2)


def test_bytes_are_those_of_the_values_the_scale_the_norm_and_a_header():
    pool, target = random_features(400, "pool", 0), random_features(5, "target", 1)
    results = dtypes.agreement(pool, target, SUBTASKS)
    for dtype, width in (("float32", 192), ("float16", 96), ("bfloat16", 96), ("int8", 48), ("int4", 24), ("int1", 6)):
        assert width + 8 < results[f"bytes_a_row_{dtype}"] < width + 8 + 400 / 400


def test_pool_rows_without_a_direction_are_left_out():
    pool, target = random_features(30, "pool", 0), random_features(5, "target", 1)
    without = dtypes.agreement(pool, target, SUBTASKS)
    zero, broken = torch.zeros(1, 48), torch.full((1, 48), torch.nan)
    widened = dtypes.Features([*pool.example_ids, "zero", "broken"], torch.cat([pool.rows, zero, broken]))
    results = dtypes.agreement(widened, target, SUBTASKS)
    assert results["n_pool"] == 30
    for dtype in CODECS:
        assert results[f"spearman_{dtype}"] == without[f"spearman_{dtype}"]


def test_features_of_a_warmed_model_are_measured_and_printed(monkeypatch, model_folder):
    monkeypatch.setattr(dtypes, "smollm2_folder", lambda: model_folder)
    monkeypatch.setattr(subject, "WARMUP_ROWS", 4)
    monkeypatch.setattr(subject, "mixed_rows", lambda n, seed: make_rows(n))
    results = dtypes.measure(n_rows=20, n_target=4, max_length=200, tokens_per_batch=400, rank=4, proj_dim=256)
    assert (results["n_pool"], results["n_target"], results["n_subtasks"]) == (20, 4, 2)
    assert results["spearman_float32"] == pytest.approx(1)
    assert results["spearman_int8"] > 0.9
    [table] = dtypes.tables(results)
    assert table.row_count == len(CODECS)
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    [line] = [line for line in console.file.getvalue().splitlines() if "int4" in line]
    assert f"{results['spearman_int4']:.5f}" in line
    assert f"{results['top_5_percent_overlap_int4']:.1%}" in line
    assert f"{results['bytes_a_row_int4']:,.0f}" in line
