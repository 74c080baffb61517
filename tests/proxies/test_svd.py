import pytest
import torch
from torch import nn

from lessexp.gradients.per_example import per_example_gradients
from lessexp.models.causal_lm import load_causal_lm
from lessexp.models.lora import attach_lora
from lessexp.proxies.low_rank_linear import LowRankLinear
from lessexp.proxies.svd import compress_by_svd, rank_for_sparsity, truncated_svd
from tests.conftest import LORA, perturb_adapter

LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RANK = 8


@pytest.fixture
def model(model_folder):
    return load_causal_lm(model_folder, dtype="float32", device="cpu")


def compress(model, layers=LAYERS):
    """Every layer of the tiny model gets rank 8 or 16 by this."""
    return compress_by_svd(model, sparsity=0.5, rank_multiple=RANK, layers=layers)


def linear_layers(model):
    return {name: layer for name, layer in model.named_modules() if name.endswith(LAYERS)}


@pytest.mark.parametrize("shape", [(12, 20), (20, 12), (9, 9)])
@pytest.mark.parametrize("rank", [1, 5])
def test_truncated_svd_leaves_exactly_the_discarded_singular_values(shape, rank):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    up, down = truncated_svd(weight, rank)
    assert up.shape == (shape[0], rank) and down.shape == (rank, shape[1])
    residual = (weight.double() - up.double() @ down.double()).square().sum()
    discarded = torch.linalg.svdvals(weight.double())[rank:].square().sum()
    # No matrix of this rank is nearer (Eckart and Young); the factors are rounded to float32.
    torch.testing.assert_close(residual, discarded, rtol=1e-5, atol=0)


def test_singular_values_are_split_evenly_between_the_factors_of_the_weights_dtype():
    weight = torch.randn(12, 20, generator=torch.Generator().manual_seed(0))
    up, down = truncated_svd(weight, 4)
    values = torch.linalg.svdvals(weight)[:4]
    torch.testing.assert_close(up.T @ up, values.diag(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(down @ down.T, values.diag(), rtol=1e-5, atol=1e-5)
    assert {factor.dtype for factor in truncated_svd(weight.bfloat16(), 4)} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("out_features", "in_features", "sparsity", "rank"),
    [
        # Llama-3.2-3B: query, key and value, MLP.
        (3072, 3072, 0.5, 768),
        (1024, 3072, 0.5, 384),
        (8192, 3072, 0.5, 1152),
        (3072, 8192, 0.5, 1152),
        # Qwen2.5-0.5B, key and value: one multiple is already all there is.
        (128, 896, 0.3, None),
        (128, 896, 0.5, None),
        (128, 896, 0.7, None),
    ],
)
def test_rank_holds_the_remaining_share_of_the_parameters_in_multiples_of_128(
    out_features, in_features, sparsity, rank
):
    assert rank_for_sparsity(out_features, in_features, sparsity=sparsity, multiple=128) == rank


# SmolLM2-135M and Qwen2.5-0.5B.
@pytest.mark.parametrize(("out_features", "in_features"), [(576, 576), (192, 576), (1536, 576), (896, 896)])
@pytest.mark.parametrize("multiple", [1, 64, 128])
def test_a_layer_is_replaced_only_where_that_saves_parameters(out_features, in_features, multiple):
    ranks = [
        rank_for_sparsity(out_features, in_features, sparsity=percent / 100, multiple=multiple)
        for percent in range(1, 100)
    ]
    found = [rank for rank in ranks if rank is not None]
    assert found and max(found) * (out_features + in_features) < out_features * in_features


def test_the_named_layers_are_replaced_under_their_names_and_no_others(model):
    names = set(linear_layers(model))
    compress(model, layers=("q_proj", "down_proj"))
    layers = linear_layers(model)
    assert set(layers) == names
    replaced = {name for name, layer in layers.items() if isinstance(layer, LowRankLinear)}
    assert replaced == {name for name in names if name.endswith(("q_proj", "down_proj"))}
    assert all(type(layer) is nn.Linear for name, layer in layers.items() if name not in replaced)


def test_a_model_whose_layers_have_that_rank_already_keeps_its_logits(model, batch):
    with torch.no_grad():
        for layer in linear_layers(model).values():
            up, down = truncated_svd(layer.weight, RANK)
            layer.weight.copy_(up @ down)
        before = model(input_ids=batch.input_ids).logits
        compress(model)
        after = model(input_ids=batch.input_ids).logits
    assert all(isinstance(layer, LowRankLinear) for layer in linear_layers(model).values())
    # Logits are of order 1; float32 through two layers.
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def test_higher_sparsity_moves_the_logits_further(model_folder, batch):
    dense = load_causal_lm(model_folder, dtype="float32", device="cpu")(input_ids=batch.input_ids).logits
    errors = []
    for sparsity in (0.1, 0.5, 0.9):
        model = load_causal_lm(model_folder, dtype="float32", device="cpu")
        compress_by_svd(model, sparsity=sparsity, rank_multiple=1, layers=LAYERS)
        errors.append((model(input_ids=batch.input_ids).logits - dense).square().mean().item())
    assert 0 < errors[0] < errors[1] < errors[2]


def test_per_example_gradients_on_the_proxy_equal_those_on_its_weights_multiplied_out(model, model_folder, batch):
    proxy = compress(model)
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


@pytest.mark.parametrize("change", [{"rank_multiple": 128}, {"layers": ("c_attn",)}])
def test_a_proxy_that_replaces_nothing_is_refused(model, change):
    with pytest.raises(ValueError, match="leaves every layer dense"):
        compress_by_svd(model, **({"sparsity": 0.5, "rank_multiple": 8, "layers": LAYERS} | change))
