import pytest
import torch
from torch import nn

from lessexp.models.causal_lm import per_example_loss
from lessexp.models.layer_passes import frozen, watch_layers
from tests.conftest import build_model


def test_a_layers_weight_gradient_is_the_product_of_what_the_sink_gets(batch, tokenizer):
    model = build_model(len(tokenizer)).double()
    layers = {name: layer for name, layer in model.named_modules() if name.endswith(("q_proj", "down_proj"))}
    found = {}

    def sink(name, layer, incoming, outgoing):
        assert layer is layers[name]
        found[name] = torch.einsum("bto,bti->oi", outgoing, incoming)

    with watch_layers(model, layers, sink):
        per_example_loss(model, batch).sum().backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    expected = torch.autograd.grad(per_example_loss(model, batch).sum(), [layer.weight for layer in layers.values()])
    assert list(found) == list(reversed(layers))  # last layer first
    for name, grad in zip(layers, expected, strict=True):
        # float64 sums in another order.
        torch.testing.assert_close(found[name], grad, rtol=1e-9, atol=1e-12)


def test_parameters_ask_for_gradients_again_even_after_a_failure():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    before = [parameter.requires_grad for parameter in model.parameters()]
    with pytest.raises(RuntimeError), frozen(model):
        assert not any(parameter.requires_grad for parameter in model.parameters())
        raise RuntimeError
    assert [parameter.requires_grad for parameter in model.parameters()] == before == [False, False, True, True]
