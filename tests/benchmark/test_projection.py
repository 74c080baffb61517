import io

import pytest
import torch
from rich.console import Console

from lessexp.benchmark import projection, unprojected
from lessexp.benchmark.timing import Timing
from lessexp.benchmark.unprojected import Gradients


def random_gradients(n_rows=34, n_pool=30):
    generator = torch.Generator().manual_seed(0)
    blocks = {name: torch.randn(n_rows, size, generator=generator) for name, size in (("a", 40), ("b", 30))}
    return Gradients(blocks, n_pool)


def test_an_exact_copy_has_no_error_and_a_noisy_one_has():
    exact = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    assert projection.fidelity(exact, exact) == pytest.approx({"cosine_rmse": 0, "spearman": 1})
    shifted = projection.fidelity(exact + 0.1, exact)
    assert shifted == pytest.approx({"cosine_rmse": 0.1, "spearman": 1})


@pytest.mark.parametrize("name", projection.PROJECTIONS)
def test_every_dimension_has_the_cosines_of_a_projector_of_its_own(name):
    gradients = random_gradients()
    for proj_dim, rows in zip([16, 48], projection.projected(name, gradients, [16, 48], seed=3), strict=True):
        own = projection.PROJECTIONS[name](proj_dim, 3).project(gradients.blocks)
        torch.testing.assert_close(gradients.cosines(rows), gradients.cosines(own))


def test_a_row_costs_its_share_of_the_timed_batch_scaled_up_to_all_parameters(monkeypatch):
    seen = []

    class Recorder:
        proj_dim = 4

        def project(self, named_grads):
            seen.append({name: tuple(block.shape) for name, block in named_grads.items()})

        def add(self, total, name, start, tile):
            raise NotImplementedError

    def two_seconds(alternatives, *, repeats):
        [(name, run)] = alternatives.items()
        run()
        return {name: Timing(2.0, 1.0, 9.0)}

    monkeypatch.setattr(projection, "time_in_turns", two_seconds)
    monkeypatch.setattr(projection, "TIMED_COORDINATES", 100)
    blocks = {name: torch.zeros(20, size) for name, size in (("a", 60), ("b", 40), ("c", 50), ("d", 10))}
    seconds = projection.seconds_a_row(Recorder(), blocks)
    assert seen == [{"a": (8, 60), "b": (8, 40)}]
    assert seconds == pytest.approx(2.0 / 8 * 160 / 100)


def test_a_parameter_larger_than_the_sample_is_timed_whole(monkeypatch):
    monkeypatch.setattr(projection, "TIMED_COORDINATES", 10)
    assert projection.seconds_a_row(projection.RademacherProjector(4, 0), {"a": torch.zeros(3, 60)}) > 0


def figures_of(**by_name):
    """Results in which each projection has (Spearman, error on concentrated vectors, seconds) at d = 64."""
    return {
        "projections": {
            name: {"64": {"spearman_mean": rank, "seconds_mean": seconds}}
            for name, (rank, _, seconds) in by_name.items()
        },
        "concentrated": {name: {"64": {"cosine_rmse_mean": error}} for name, (_, error, _) in by_name.items()},
    }


@pytest.mark.parametrize(
    ("other", "default"),
    [
        ((0.991, 0.0120, 1.0), "other"),  # within both tolerances, and cheaper
        ((0.991, 0.0120, 99.0), "rademacher"),  # dearer
        ((0.989, 0.0100, 1.0), "rademacher"),  # ranks worse by 0.006
        ((0.999, 0.0130, 1.0), "rademacher"),  # 1.3 times the error on concentrated vectors
    ],
)
def test_the_default_is_the_cheapest_that_is_as_faithful_as_dense_signs(other, default):
    results = figures_of(rademacher=(0.995, 0.0100, 50.0), other=other)
    assert projection.choose_default(results, 64) == default


@pytest.fixture
def measured(monkeypatch):
    monkeypatch.setattr(projection, "real_gradients", lambda **_: random_gradients())
    monkeypatch.setattr(
        projection,
        "concentrated_gradients",
        lambda **settings: unprojected.concentrated_gradients(**{**settings, "n_parameters": 4, "size": 60}),
    )

    def measure(n_seeds):
        return projection.measure(n_pool=30, n_target=4, max_length=8, rank=1, dims=[512, 16], n_seeds=n_seeds)

    return measure


def test_a_wider_projection_is_more_faithful_in_both_cases(measured):
    results = measured(2)
    assert (results["n_pool"], results["n_target"], results["n_seeds"]) == (30, 4, 2)
    for case in ("projections", "concentrated"):
        assert set(results[case]) == set(projection.PROJECTIONS)
        for by_dim in results[case].values():
            assert by_dim["512"]["cosine_rmse_mean"] < by_dim["16"]["cosine_rmse_mean"]
            assert by_dim["512"]["spearman_mean"] > by_dim["16"]["spearman_mean"]
            assert {"cosine_rmse_std", "spearman_std"} <= set(by_dim["16"])
    for by_dim in results["projections"].values():
        assert by_dim["16"]["seconds_mean"] > 0
    # d = 8192 was not measured, so the largest counts.
    assert results["default_proj_dim"] == 512
    assert results["default"] == projection.choose_default(results, 512)


def test_every_projection_and_dimension_has_a_line_and_the_default_is_named(measured):
    results = measured(1)
    assert "spearman_std" not in results["projections"]["srht"]["512"]
    console = Console(file=io.StringIO(), width=120)
    real, concentrated, default = projection.tables(results)
    assert real.row_count == concentrated.row_count == 2 * len(projection.PROJECTIONS)
    console.print(real)
    [line] = [line for line in console.file.getvalue().splitlines() if "srht" in line and " 512 " in line]
    figures = results["projections"]["srht"]["512"]
    assert f"{figures['cosine_rmse_mean']:.4f}" in line
    assert f"{figures['spearman_mean']:.4f}" in line
    assert f"{1000 * figures['seconds_mean']:,.1f}" in line
    assert default.startswith(f"Default at d = 512: {results['default']}, ")


@pytest.mark.parametrize("kinds", [("mean",), ("mean", "std")])
def test_the_plot_is_drawn_with_and_without_deviations(kinds, tmp_path):
    figures = {f"{figure}_{kind}": 0.1 for figure in ("cosine_rmse", "spearman") for kind in kinds}
    by_name = {name: {"512": figures, "1024": figures} for name in projection.PROJECTIONS}
    projection.plot({"projections": by_name, "concentrated": by_name}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
