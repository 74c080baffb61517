import pytest
import torch

from lessexp.data.tokenize import collate
from lessexp.identity import key_of
from lessexp.models.causal_lm import load_causal_lm
from lessexp.proxies.compression import read_compression
from lessexp.proxies.factors import balanced
from lessexp.proxies.low_rank_linear import low_rank_layers
from lessexp.proxies.second_moments import with_gradient
from lessexp.proxies.whitened_svd import by_both, ipsvd

TINY = ["selector=iprox", "proxy.rank_multiple=4", "proxy.probes.n_rows=6", "model.dtype=float32"]


def test_the_factors_are_those_of_probe_rows_that_the_seed_draws(make_experiment, model_folder):
    experiment = make_experiment(*TINY)
    model = experiment.selection_model.load()
    probes = list(experiment.proxy.probes)
    assert len(probes) == 6 and [row.example_id for row in probes] != sorted(row.example_id for row in probes)
    cfg = experiment.cfg.proxy
    made = ipsvd(
        load_causal_lm(model_folder, dtype="float32", device="cpu"),
        [collate([row], pad_token_id=1) for row in probes],
        sparsity=0.5,
        rank_multiple=4,
        layers=list(cfg.layers),
        damping=cfg.factors.damping,
        positions=with_gradient,
        weighing=by_both,
        split=balanced,
        moment_bytes=1e9,
    )
    layers = low_rank_layers(model)
    assert list(layers) == list(made.factors)
    for name, layer in layers.items():
        expected = made.factors[name].weight
        # Moments of float32 summed in other batches, through roots of a condition of some thousands.
        assert (layer.weight - expected).norm() < 1e-3 * expected.norm(), name


def test_a_proxy_is_built_once_for_all_that_load_it(make_experiment, capsys):
    experiment = make_experiment(*TINY)
    first = experiment.selection_model.load()
    again = make_experiment(*TINY, "fraction=0.5", "target.path=" + experiment.cfg.target.path, run="again")
    built = again.runtime.get(again.proxy.artifacts["proxy"])
    assert built.reused and read_compression(built.folder).sparsity == built.record["sparsity"]
    second = again.selection_model.load()
    for name, layer in low_rank_layers(first).items():
        assert torch.equal(low_rank_layers(second)[name].up.weight, layer.up.weight)
    assert {file.suffix for file in built.folder.iterdir()} <= {".safetensors", ".json", ""}


KINDS = ("proxy", "warmup", "pool_gradients")


def keys(experiment):
    *_, last = experiment.proxy.artifacts.values()
    found = (last, experiment.warmup, experiment.pool_gradients[0])
    return {kind: key_of(one) for kind, one in zip(KINDS, found, strict=True)}


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("proxy.sparsity=0.3", ["proxy", "pool_gradients"]),
        ("proxy=activation_svd", ["proxy", "pool_gradients"]),
        ("proxy.factors.damping=0.1", ["proxy", "pool_gradients"]),
        ("proxy.probes.seed=5", ["proxy", "pool_gradients"]),
        ("proxy.probes.tokens_per_batch=64", []),
        ("proxy.factors.moment_bytes=1", []),
        ("lora.rank=2", ["warmup", "pool_gradients"]),
        ("proxy.adapter_from=proxy", ["warmup", "pool_gradients"]),
        ("seed=1", KINDS),
    ],
)
def test_a_proxy_is_keyed_by_what_determines_it_and_the_targets_warmup_is_not_keyed_by_it(
    make_experiment, override, changed
):
    base, other = (keys(make_experiment(*TINY, *more)) for more in ([], [override]))
    assert [kind for kind in KINDS if base[kind] != other[kind]] == list(changed)


def test_alignment_and_its_rows_are_part_of_the_proxys_key(make_experiment):
    settings = [*TINY, "alignment.n_held_out=5"]
    off, on, fewer = (
        keys(make_experiment(*TINY, *more))
        for more in (
            [],
            [*settings, "alignment=first_order"],
            [*settings, "alignment=first_order", "alignment.n_rows=4"],
        )
    )
    assert len({found["proxy"] for found in (off, on, fewer)}) == 3
    assert off["warmup"] == on["warmup"] == fewer["warmup"]


def test_the_targets_warmup_is_the_one_that_plain_less_shares(make_experiment):
    proxy, less = make_experiment(*TINY), make_experiment("selector=less", "model.dtype=float32")
    assert key_of(proxy.warmup) == key_of(less.warmup)
    assert not proxy.warmup_model.model.factors and proxy.selection_model.model.factors


def test_a_proxy_of_fewer_layers_has_nothing_to_build(make_experiment):
    experiment = make_experiment("selector=iprox", "proxy=layer_drop")
    assert experiment.proxy.is_asked_for and not experiment.proxy.has_factors
    assert len(experiment.selection_model.load().model.layers) == 1
    assert experiment.warmup_model is experiment.selection_model
