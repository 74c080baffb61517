import pytest
import torch

from lessexp.data.tokenize import collate
from lessexp.models.causal_lm import per_example_loss
from lessexp.proxies.factors import ProxyError
from lessexp.proxies.second_moments import every_token, second_moments, with_gradient
from tests.conftest import build_model

EXACT = dict(rtol=1e-9, atol=1e-14)  # float64 sums in another order


@pytest.fixture
def model(tokenizer):
    return build_model(len(tokenizer)).double()


def some_layers(model):
    return {
        name: model.get_submodule(name) for name in ("model.layers.0.self_attn.v_proj", "model.layers.1.mlp.up_proj")
    }


def batches_of(rows, size, fill=1):
    return [collate(rows[start : start + size], pad_token_id=fill) for start in range(0, len(rows), size)]


def moments_one_row_at_a_time(model, name, rows, positions):
    """The slow and obvious way: autograd on each row alone, outer products token by token."""
    layer, inputs, output_grads, n = model.get_submodule(name), 0.0, 0.0, 0
    for row in rows:
        kept = {}
        handle = layer.register_forward_hook(lambda _l, x, y, kept=kept: kept.update(x=x[0], y=y))
        loss = per_example_loss(model, collate([row], pad_token_id=1)).sum()
        handle.remove()
        [grad] = torch.autograd.grad(loss, kept["y"])
        for h, delta in zip(kept["x"][0], grad[0], strict=True):
            if positions is every_token or delta.any():
                inputs, output_grads, n = inputs + h.outer(h), output_grads + delta.outer(delta), n + 1
    return inputs.detach() / n, output_grads / n, n


@pytest.mark.parametrize("positions", [with_gradient, every_token])
def test_moments_are_the_mean_outer_products_of_tokens_however_rows_are_batched(model, tokenized, positions):
    layers = some_layers(model)
    by_size = [second_moments(model, batches_of(tokenized, n), layers, positions=positions) for n in (1, 5, 12)]
    for name in layers:
        inputs, output_grads, n = moments_one_row_at_a_time(model, name, tokenized, positions)
        for moments in by_size:
            assert moments[name].n_positions == n
            torch.testing.assert_close(moments[name].inputs, inputs, **EXACT)
            torch.testing.assert_close(moments[name].output_grads, output_grads, **EXACT)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_what_fills_the_padding_does_not_matter(model, tokenized):
    layers = some_layers(model)
    first, other = (
        second_moments(model, batches_of(tokenized, 6, fill=fill), layers, positions=with_gradient) for fill in (1, 77)
    )
    for name in layers:
        torch.testing.assert_close(first[name].inputs, other[name].inputs, **EXACT)


def test_tokens_with_gradient_are_those_that_answers_depend_on(model, tokenized):
    n_tokens = sum(len(row.input_ids) for row in tokenized)
    n_answers = sum(label != -100 for row in tokenized for label in row.labels[1:])
    low, high = (
        moments.n_positions
        for moments in second_moments(
            model, batches_of(tokenized, 4), some_layers(model), positions=with_gradient
        ).values()
    )
    assert high == n_answers  # the last layer's MLP acts on the tokens that predict an answer alone
    assert low == n_tokens - len(tokenized)  # the first layer's values on all but the last token of a row


def test_a_layer_that_no_token_reaches_is_named(model):
    with pytest.raises(ProxyError, match="v_proj: no token of the probes reaches it"):
        second_moments(model, [], some_layers(model), positions=with_gradient)


def test_moments_that_are_not_finite_are_refused(model, batch):
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = torch.inf
    with pytest.raises(ProxyError, match="its second moments are not finite"):
        second_moments(model, [batch], some_layers(model), positions=with_gradient)
