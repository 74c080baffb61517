import io
import json
import shutil

import pytest
from rich.console import Console

from lessexp.benchmark import proxies
from lessexp.data.rows import write_rows
from lessexp.models.causal_lm import load_causal_lm
from lessexp.models.linear_layers import layers_named
from lessexp.stages.configuration import ExperimentError
from tests.conftest import make_rows
from tests.stages.conftest import SHRUNK

LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.fixture
def overrides(tmp_path, model_folder):
    write_rows(tmp_path / "pool.jsonl", make_rows(40))
    write_rows(tmp_path / "target.jsonl", make_rows(5, prefix="target", target=True))
    return [
        *SHRUNK,
        f"model.path={model_folder}",
        f"data.paths=[{tmp_path / 'pool.jsonl'}]",
        f"target.path={tmp_path / 'target.jsonl'}",
        f"artifacts_dir={tmp_path / 'artifacts'}",
    ]


def measured(overrides, **settings):
    nothing = {"proxies": [], "sparsities": [], "alignments": ["off"], "smaller_models": [], "seeds": [0]}
    return proxies.measure(overrides=overrides, **nothing | settings)["measurements"]


def test_every_proxy_stands_at_every_sparsity_and_a_cut_model_is_never_aligned():
    found = list(proxies.stand_ins(["ipsvd", "layer_drop"], [0.3, 0.7], ["off", "second_order"], ["models/small"]))
    assert [(one.name, one.sparsity, one.alignment) for one in found] == [
        ("ipsvd", 0.3, "off"),
        ("ipsvd", 0.3, "second_order"),
        ("ipsvd", 0.7, "off"),
        ("ipsvd", 0.7, "second_order"),
        ("layer_drop", 0.3, "off"),
        ("layer_drop", 0.7, "off"),
        ("small", None, "off"),
    ]
    assert [one.takes("proxy.rank_multiple=8") for one in found] == [True] * 4 + [False] * 3
    assert [one.takes("proxy.probes.n_rows=8") for one in found] == [True] * 4 + [False] * 3
    assert [one.takes("alignment.n_rows=8") for one in found] == [False, True] * 2 + [False] * 3
    [plain] = proxies.stand_ins(["svd"], [0.5], ["off"], [])
    assert plain.takes("proxy.rank_multiple=8") and not plain.takes("proxy.probes.n_rows=8")
    assert all(one.takes("proj_dim=8") for one in [*found, plain])
    assert found[1].overrides == ("selector=iprox", "proxy=ipsvd", "proxy.sparsity=0.3", "alignment=second_order")


def test_a_setting_that_no_stand_in_has_is_refused_before_anything_runs():
    with pytest.raises(ExperimentError, match=r"^proxy\.sparsness=1: none of the stand-ins has such a setting"):
        measured(["proxy.sparsness=1"], proxies=["svd"], sparsities=[0.5])


def test_a_copy_of_the_model_finds_the_same_influence_at_the_same_arithmetic(overrides, model_folder, tmp_path):
    copy = shutil.copytree(model_folder, tmp_path / "copy")
    [figures] = measured(overrides, smaller_models=[str(copy)])
    assert figures["spearman"] == pytest.approx(1)
    assert figures["top_overlap"] == figures["flop_over_whole"] == 1
    assert figures["seconds_over_whole"] > 0


def test_a_proxy_saves_the_arithmetic_of_the_parameters_that_it_lacks_and_takes_that_of_its_factors(
    overrides, model_folder
):
    overrides = [*overrides, "proxy.rank_multiple=1"]
    measurements = measured(overrides, proxies=["svd"], sparsities=[0.25, 0.75], seeds=[0, 1])
    model = load_causal_lm(model_folder, dtype="float32", device="cpu")
    layers = layers_named(model, LAYERS).values()
    n_compressed = sum(layer.weight.numel() for layer in layers)
    svd_flops = sum(
        6 * max(size) * min(size) ** 2 + 20 * min(size) ** 3 for size in (one.weight.shape for one in layers)
    )
    whole_flops = proxies._select(proxies._WHOLE, overrides, 0).costs["FLOP"]
    n_adapter = sum(16 * sum(layer.weight.shape) for layer in layers_named(model, LAYERS[:4]).values())
    n_all = model.num_parameters() + n_adapter
    for figures in measurements:
        of_gradients = 1 - figures["sparsity_reached"] * n_compressed / n_all
        assert figures["gradient_flop_over_whole"] == pytest.approx(of_gradients)
        assert figures["flop_over_whole"] == pytest.approx(of_gradients + svd_flops / whole_flops)
        assert figures["n_rows"] == 40
    assert [figures["seed"] for figures in measurements] == [0, 0, 1, 1]
    little, much = proxies.by_stand_in(measurements)
    assert 1 > little["spearman_mean"] > much["spearman_mean"]
    assert little["flop_over_whole_std"] == pytest.approx(0, abs=1e-12)
    assert [figures["sparsity_reached"] for figures in (little, much)] == pytest.approx([0.25, 0.75], abs=0.03)


def test_what_a_file_holds_is_not_measured_again_and_stands_beside_what_is_new(overrides, tmp_path, monkeypatch):
    overrides, file = [*overrides, "proxy.rank_multiple=1"], tmp_path / "figures.json"
    first = measured(overrides, proxies=["svd"], sparsities=[0.5], file=file)
    ran = []
    select = proxies._select
    monkeypatch.setattr(proxies, "_select", lambda one, settings, seed: ran.append(one) or select(one, settings, seed))
    assert measured(overrides, proxies=["svd"], sparsities=[0.5], file=file) == first and ran == []
    both = measured(overrides, proxies=["svd"], sparsities=[0.5, 0.75], file=file)
    assert [one.sparsity for one in ran] == [None, 0.75]
    assert both[:1] == first and both[1]["sparsity"] == 0.75
    assert json.loads(file.read_text()) == {"measurements": both}
    other = measured([*overrides, "proj_dim=8"], proxies=["svd"], sparsities=[0.5], file=file)
    assert other[:2] == both and "proj_dim=8" in other[2]["overrides"]
    assert [figures["n_seeds"] for figures in proxies.by_stand_in(other)] == [1, 1, 1]


def test_figures_over_seeds_are_mean_and_sample_deviation_and_a_single_one_has_none():
    assert proxies.over_seeds([{"spearman": 0.5}, {"spearman": 0.7}]) == pytest.approx(
        {"spearman_mean": 0.6, "spearman_std": 0.02**0.5}
    )
    assert proxies.over_seeds([{"spearman": 0.5}]) == {"spearman_mean": 0.5}


RESULTS = {
    "measurements": [
        {"name": name, "sparsity": sparsity, "sparsity_reached": sparsity, "alignment": alignment, "n_rows": 1200}
        | {"overrides": [f"proxy={name}", f"proxy.sparsity={sparsity}", f"alignment={alignment}"], "seed": seed}
        | {"spearman": value + seed / 100, "top_overlap": 0.5, "seconds_over_whole": 0.8, "flop_over_whole": 0.7}
        | {"gradient_seconds_over_whole": 0.6, "gradient_flop_over_whole": 0.5}
        for seed in (0, 1)
        for name, sparsity, alignment, value in (
            ("ipsvd", 0.3, "second_order", 0.95),
            ("small", None, "off", 0.4),
            ("ipsvd", 0.7, "off", 0.7),
            ("ipsvd", 0.3, "off", 0.9),
        )
    ]
}


def cells(line):
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_the_tables_have_a_line_a_stand_in_and_fit_a_terminal():
    console = Console(file=io.StringIO(), width=80)
    for table in proxies.tables(RESULTS):
        console.print(table)
    lines = console.file.getvalue().splitlines()
    fidelity, cost = (cells(line) for line in lines if "second_order" in line)
    assert fidelity == ["ipsvd", "0.3", "second_order", "2", "0.95 ± 0.01", "0.50 ± 0.00"]
    assert cost == ["ipsvd", "0.3", "second_order", "0.8 ± 0.0", "0.6 ± 0.0", "0.70", "0.50"]
    small, _ = (cells(line) for line in lines if "small" in line)
    assert small[:3] == ["small", "", "off"]


def test_the_plot_has_a_line_a_proxy_and_a_level_a_smaller_model(tmp_path):
    from matplotlib.figure import Figure

    figure = Figure()
    proxies._draw(figure, proxies.by_stand_in(RESULTS["measurements"]))
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["small", "ipsvd", "ipsvd, second_order"]
    proxies.plot(RESULTS, tmp_path / "new" / "proxies.png")
    assert (tmp_path / "new" / "proxies.png").stat().st_size > 1000
