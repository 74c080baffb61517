import pytest
import torch

from lessexp.gradients.per_example import per_example_gradients
from lessexp.gradients.spaces import EmptySpaceError, adapter, equivalent, factor
from lessexp.models.causal_lm import load_causal_lm
from lessexp.models.lora import attach_lora
from lessexp.proxies.compression import replace_layers
from lessexp.proxies.low_rank_linear import low_rank_layers
from lessexp.proxies.svd import svd, truncated_svd
from tests.conftest import LORA, perturb_adapter

LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
EXACT = dict(rtol=1e-3, atol=1e-5)  # float32 through other products; entries are of order 0.01 to 1


@pytest.fixture
def load(model_folder):
    return lambda: load_causal_lm(model_folder, dtype="float32", device="cpu")


def with_adapter(model):
    return perturb_adapter(attach_lora(model, LORA, seed=0)).eval()


def gradients(model, batch, space):
    return per_example_gradients(model, batch, layers=space(model))


def weights(model):
    return equivalent(model, layers=LAYERS)


def inner_products(grads):
    flat = torch.cat([grad.flatten(1) for grad in grads.values()], dim=1).double()
    return flat @ flat.T


def at_full_rank(model):
    layers = {name: layer for name, layer in model.named_modules() if name.endswith(LAYERS)}
    factors = {
        name: truncated_svd(layer.weight.detach().double(), min(layer.weight.shape))[0].to(layer.weight)
        for name, layer in layers.items()
    }
    return replace_layers(model, factors)


def test_at_full_rank_weights_and_adapter_have_the_models_influence_and_factors_do_not(load, batch):
    model, proxy = with_adapter(load()), with_adapter(at_full_rank(load()))
    for space in (adapter, weights):
        expected, found = (gradients(some, batch, space) for some in (model, proxy))
        assert list(found) == list(expected)
        for name, grad in expected.items():
            torch.testing.assert_close(found[name], grad, **EXACT)
    exact = inner_products(gradients(model, batch, weights))
    other = inner_products(gradients(proxy, batch, factor))
    assert not torch.allclose(other / other.norm(), exact / exact.norm(), rtol=0.05)


def test_gradients_of_factors_follow_from_those_of_their_product(load, batch):
    base = load()
    proxy = with_adapter(replace_layers(base, svd(base, [], sparsity=0.5, rank_multiple=4, layers=LAYERS).factors))
    whole, parts = (gradients(proxy, batch, space) for space in (weights, factor))
    layers = weights(proxy)
    assert set(parts) == {f"{name}.{part}.weight" for name in layers for part in ("up", "down")}
    for name, layer in layers.items():
        grad = whole[f"{name}.weight"]
        assert grad.abs().max() > 1e-3, f"{name} has no gradient, so the comparison would show nothing"
        torch.testing.assert_close(parts[f"{name}.up.weight"], grad @ layer.down.weight.T, **EXACT)
        torch.testing.assert_close(parts[f"{name}.down.weight"], layer.up.weight.T @ grad, **EXACT)


def test_other_factors_of_the_same_weights_change_the_influence_of_factors_alone(load, batch):
    base = load()
    proxy = with_adapter(replace_layers(base, svd(base, [], sparsity=0.5, rank_multiple=4, layers=LAYERS).factors))
    before = {space: gradients(proxy, batch, space) for space in (adapter, weights, factor)}
    for layer in low_rank_layers(proxy).values():
        mixed = torch.linspace(0.5, 4, layer.rank).diag() + 0.1 * torch.ones(layer.rank, layer.rank).triu(1)
        with torch.no_grad():
            layer.up.weight.copy_(layer.up.weight @ mixed)
            layer.down.weight.copy_(torch.linalg.solve(mixed, layer.down.weight))
    after = {space: gradients(proxy, batch, space) for space in (adapter, weights, factor)}
    for space in (adapter, weights):
        for name, grad in before[space].items():
            torch.testing.assert_close(after[space][name], grad, **EXACT)
    first, other = (inner_products(found[factor]) for found in (before, after))
    assert not torch.allclose(other / other.norm(), first / first.norm(), rtol=0.05)


def test_a_model_without_such_layers_has_no_such_space(load):
    model = with_adapter(load())
    with pytest.raises(EmptySpaceError, match="needs a proxy with low-rank layers"):
        factor(model)
    with pytest.raises(EmptySpaceError, match=r"space\.layers=\['c_attn'\]"):
        equivalent(model, layers=["c_attn"])
