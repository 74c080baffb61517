import pytest
import torch

from lessexp.benchmark import projection


def blocks(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return {"a": torch.randn(n, 40, generator=generator), "b": torch.randn(n, 30, generator=generator)}


def test_exact_cosines_are_those_of_the_joined_gradients():
    pool, target = blocks(5, 0), blocks(3, 1)
    joined = [torch.cat(list(rows.values()), dim=1) for rows in (pool, target)]
    expected = torch.nn.functional.cosine_similarity(joined[0][:, None], joined[1][None], dim=2)
    torch.testing.assert_close(projection.exact_cosines(pool, target), expected)
    torch.testing.assert_close(projection.cosines(*joined), expected)


def test_spearman_is_the_correlation_of_ranks():
    values = torch.tensor([0.1, 0.5, 0.2, 0.9])
    assert projection.spearman(values, values.exp()) == pytest.approx(1)
    assert projection.spearman(values, -values) == pytest.approx(-1)
    # One swap of neighbours among four: 1 - 6 * 2 / (4 * 15).
    assert projection.spearman(values, torch.tensor([0.2, 0.5, 0.1, 0.9])) == pytest.approx(0.8)


def test_an_exact_copy_has_no_error_and_a_noisy_one_has():
    exact = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    assert projection.fidelity(exact, exact) == pytest.approx({"cosine_rmse": 0, "spearman": 1})
    shifted = projection.fidelity(exact + 0.1, exact)
    assert shifted == pytest.approx({"cosine_rmse": 0.1, "spearman": 1})


def test_a_wider_projection_is_more_faithful_and_all_are_plotted(monkeypatch, tmp_path):
    monkeypatch.setattr(projection, "real_gradients", lambda **_: (blocks(30, 0), blocks(4, 1)))
    results = projection.measure(n_pool=30, n_target=4, max_length=8, rank=1, dims=[8, 512], n_seeds=2)
    assert set(results["projections"]) == set(projection.PROJECTIONS)
    for by_dim in results["projections"].values():
        assert by_dim["512"]["cosine_rmse_mean"] < by_dim["8"]["cosine_rmse_mean"]
        assert by_dim["512"]["spearman_mean"] > by_dim["8"]["spearman_mean"]
    projection.plot(results, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000
