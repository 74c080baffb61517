from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from lessexp.gradients.per_example import per_example_gradients
from lessexp.models.causal_lm import load_causal_lm
from lessexp.models.linear_layers import NoSuchLayerError
from lessexp.models.lora import attach_lora
from lessexp.proxies.compression import LayerReport, ranks_of, read_compression, replace_layers, write_compression
from lessexp.proxies.factors import Factors, ProxyError
from lessexp.proxies.low_rank_linear import LowRankLinear, low_rank_layers
from lessexp.proxies.svd import svd, truncated_svd
from tests.conftest import LORA, perturb_adapter

LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RANK = 8


@pytest.fixture
def model(model_folder):
    return load_causal_lm(model_folder, dtype="float32", device="cpu")


def compressed(model, layers=LAYERS):
    """Every layer of the tiny model gets rank 8 or 16 by this."""
    return svd(model, [], sparsity=0.5, rank_multiple=RANK, layers=layers)


def linear_layers(model):
    return {name: layer for name, layer in model.named_modules() if name.endswith(LAYERS)}


def test_the_named_layers_are_replaced_under_their_names_and_no_others(model):
    names = set(linear_layers(model))
    replace_layers(model, compressed(model, layers=("q_proj", "down_proj")).factors)
    layers = linear_layers(model)
    assert set(layers) == names
    assert set(low_rank_layers(model)) == {name for name in names if name.endswith(("q_proj", "down_proj"))}
    assert all(type(layer) is nn.Linear for name, layer in layers.items() if name not in low_rank_layers(model))


def test_a_model_whose_layers_have_that_rank_already_keeps_its_logits(model, batch):
    with torch.no_grad():
        for layer in linear_layers(model).values():
            layer.weight.copy_(truncated_svd(layer.weight, RANK)[0].weight)
        before = model(input_ids=batch.input_ids).logits
        replace_layers(model, compressed(model).factors)
        after = model(input_ids=batch.input_ids).logits
    assert all(isinstance(layer, LowRankLinear) for layer in linear_layers(model).values())
    # Logits are of order 1; float32 through two layers.
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def test_per_example_gradients_on_the_proxy_equal_those_on_its_weights_multiplied_out(model, model_folder, batch):
    proxy = replace_layers(model, compressed(model).factors)
    multiplied_out = load_causal_lm(model_folder, dtype="float32", device="cpu")
    with torch.no_grad():
        for name, layer in linear_layers(multiplied_out).items():
            layer.weight.copy_(proxy.get_submodule(name).weight)
    expected, actual = (
        per_example_gradients(perturb_adapter(attach_lora(base, LORA, seed=0)), batch)
        for base in (multiplied_out, proxy)
    )
    assert list(actual) == list(expected) and len(actual) == 2 * 2 * len(LORA.target_modules)
    for name, grad in expected.items():
        assert grad.abs().max() > 1e-3, f"{name} has no gradient, so the comparison would show nothing"
        # float32 products in another order; entries are of order 0.01 to 1.
        torch.testing.assert_close(actual[name], grad, rtol=1e-3, atol=1e-5)


def test_a_proxy_read_from_its_files_gives_the_very_same_gradients(model, model_folder, batch, tmp_path):
    made = compressed(model)
    write_compression(tmp_path, made)
    read = read_compression(tmp_path)
    assert list(read.layers) == list(made.layers) and read.sparsity == made.sparsity
    first, second = (
        per_example_gradients(perturb_adapter(attach_lora(replace_layers(base, factors), LORA, seed=0)), batch)
        for base, factors in (
            (model, made.factors),
            (load_causal_lm(model_folder, dtype="float32", device="cpu"), read.factors),
        )
    )
    for name, grad in first.items():
        torch.testing.assert_close(second[name], grad, rtol=0, atol=0)


def test_a_proxy_that_replaces_nothing_is_refused(model):
    with pytest.raises(ProxyError, match="leaves every layer dense"):
        ranks_of(model, sparsity=0.5, rank_multiple=128, layers=LAYERS)


@pytest.mark.parametrize("layers", [("q_porj",), ("q_porj", *LAYERS)])
def test_a_layer_that_the_model_lacks_is_named_with_those_it_has(model, layers):
    with pytest.raises(
        NoSuchLayerError, match=r"proxy\.layers: no layer's name ends in 'q_porj'; choose from q_proj, "
    ):
        ranks_of(model, sparsity=0.5, rank_multiple=8, layers=layers)


def test_layers_that_keep_their_weights_transposed_are_refused(tokenizer):
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=4))
    with pytest.raises(ProxyError, match=r"c_attn is a Conv1D; proxy\.layers may name nn\.Linear layers only"):
        ranks_of(model, sparsity=0.5, rank_multiple=1, layers=("c_attn",))


@pytest.mark.parametrize(
    ("name", "factors", "message"),
    [
        ("model.layers.0.nothing", Factors(torch.ones(32, 2), torch.ones(2, 32)), r"nothing: .* the model has None"),
        ("model.layers.0.mlp.up_proj", Factors(torch.ones(32, 2), torch.ones(2, 32)), r"up_proj: .*\(32, 32\)"),
        (
            "model.layers.0.self_attn.q_proj",
            Factors(torch.full((32, 2), 1e30).square(), torch.ones(2, 32)),
            "q_proj: its factors are not finite",
        ),
    ],
)
def test_factors_that_do_not_fit_the_model_are_refused(model, name, factors, message):
    with pytest.raises(ProxyError, match=message):
        replace_layers(model, {name: factors})


def test_arithmetic_of_a_layers_factors_counts_the_svd_and_where_it_is_weighed_its_moments_and_roots():
    plain = LayerReport("layer", out_features=4, in_features=6, rank=2, sparsity=0.1, error=0.1, n_positions=None)
    assert plain.flops == 6 * 6 * 4**2 + 20 * 4**3
    weighed = replace(plain, n_positions=10)
    moments, roots, products, solutions = (
        2 * 10 * (4**2 + 6**2),
        (4**3 + 6**3) / 3,
        2 * 4 * 6 * (4 + 6),
        2 * (4**2 + 6**2),
    )
    assert weighed.flops == pytest.approx(plain.flops + moments + roots + products + solutions)
    assert replace(weighed, rank=None).flops == 0
