from functools import partial

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lessexp.data.tokenize import collate
from lessexp.models.causal_lm import answer_logits, per_example_loss
from lessexp.proxies.alignment import (
    alignment_flops,
    alignment_loss,
    anchor_loss,
    factors_of,
    first_order,
    second_order,
    weight_gradients,
)
from lessexp.proxies.compression import replace_layers
from lessexp.proxies.factors import Factors
from lessexp.proxies.svd import svd, truncated_svd
from tests.conftest import build_model

LAYERS = ("q_proj", "o_proj", "up_proj", "down_proj")


@pytest.fixture
def target(tokenizer):
    model = build_model(len(tokenizer)).double()
    model.set_attn_implementation("eager")
    return model


@pytest.fixture
def proxy(tokenizer, target):
    model = build_model(len(tokenizer)).double()
    model.set_attn_implementation("eager")
    return replace_layers(model, svd(target, [], sparsity=0.5, rank_multiple=4, layers=LAYERS).factors)


def gradients_of(target, proxy, batch):
    return weight_gradients(target, batch, {name: target.get_submodule(name) for name in factors_of(proxy)})


def variables(proxy):
    return [part for pair in factors_of(proxy).values() for part in (pair.up, pair.down)]


def test_weight_gradients_are_autograds(target, batch):
    layers = {name: layer for name, layer in target.named_modules() if name.endswith(LAYERS)}
    found = weight_gradients(target, batch, layers)
    expected = torch.autograd.grad(per_example_loss(target, batch).mean(), [layer.weight for layer in layers.values()])
    for name, grad in zip(layers, expected, strict=True):
        torch.testing.assert_close(found[name], grad, rtol=1e-9, atol=1e-12)
        assert not found[name].requires_grad


def test_both_orders_give_the_gradients_of_the_factors(proxy, batch):
    whole = weight_gradients(proxy, batch, {name: proxy.get_submodule(name) for name in factors_of(proxy)})
    exact, local = second_order(proxy, batch), first_order(proxy, batch)
    for name, pair in factors_of(proxy).items():
        for found in (exact[name], local[name]):
            torch.testing.assert_close(found.up, whole[name] @ pair.down.T, rtol=1e-8, atol=1e-12)
            torch.testing.assert_close(found.down, pair.up.T @ whole[name], rtol=1e-8, atol=1e-12)


def linear_parameters(model):
    """Of all products that are made for each token, the head's included."""
    return sum(weight.numel() for name, weight in model.named_parameters() if "embed" not in name and weight.ndim == 2)


@pytest.mark.parametrize("order", [first_order, second_order])
def test_arithmetic_of_a_step_is_what_torch_counts(target, proxy, tokenized, order):
    batch = collate(tokenized[:2], pad_token_id=1)

    with FlopCounterMode(display=False) as counter:
        grads = gradients_of(target, proxy, batch)
        with torch.no_grad():
            logits = answer_logits(target, batch)
        aligned = alignment_loss(factors_of(proxy), order(proxy, batch), grads)
        anchored = anchor_loss(logits, answer_logits(proxy, batch), temperature=2.0)
        torch.autograd.grad(aligned + anchored, variables(proxy))
    said = alignment_flops(
        partial(order),
        n_target=linear_parameters(target),
        n_proxy=linear_parameters(proxy),
        n_aligned=sum(grad.numel() for grad in grads.values()),
        n_factors=sum(part.numel() for part in variables(proxy)),
        n_tokens=batch.input_ids.numel(),
    )
    # The head gives answers alone, and attention is not estimated.
    assert counter.get_total_flops() == pytest.approx(said, rel=0.05)


@pytest.mark.parametrize("order", [first_order, second_order])
def test_a_proxy_of_full_rank_has_nothing_to_align(target, tokenizer, batch, order):
    same = build_model(len(tokenizer)).double()
    same.set_attn_implementation("eager")
    layers = {name: layer for name, layer in same.named_modules() if name.endswith(LAYERS)}
    replace_layers(same, {name: truncated_svd(layer.weight.detach(), 99)[0] for name, layer in layers.items()})
    aligned = alignment_loss(factors_of(same), order(same, batch), gradients_of(target, same, batch))
    anchored = anchor_loss(answer_logits(target, batch), answer_logits(same, batch), temperature=2.0)
    assert abs(aligned.item()) < 1e-10 and abs(anchored.item()) < 1e-10
    for grad in torch.autograd.grad(aligned + anchored, variables(same)):
        # Cosines are flat at their top: what is left is rounding.
        assert grad.abs().max() < 1e-6


def test_the_second_order_gradient_is_that_of_finite_differences(target, proxy, batch):
    target_grads = gradients_of(target, proxy, batch)

    def loss():
        return alignment_loss(factors_of(proxy), second_order(proxy, batch), target_grads)

    grads = torch.autograd.grad(loss(), variables(proxy))
    local = torch.autograd.grad(
        alignment_loss(factors_of(proxy), first_order(proxy, batch), target_grads), variables(proxy)
    )
    generator = torch.Generator().manual_seed(0)
    for place in (0, 3, -1):
        parameter = variables(proxy)[place]
        way = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        ends = []
        for step in (2e-4, -2e-4):
            with torch.no_grad():
                parameter.add_(way, alpha=step)
            ends.append(loss().item())
            with torch.no_grad():
                parameter.sub_(way, alpha=step)
        slope = (ends[0] - ends[1]) / 4e-4
        # Llama's norms and softmax are float32 whatever the weights are: a loss is good to 1e-8, a slope to 1e-4.
        assert (grads[place] * way).sum().item() == pytest.approx(slope, rel=1e-3, abs=1e-4)
        assert abs((local[place] * way).sum().item() - slope) > 1e-2 * abs(slope)  # the first order is another one
    assert all(parameter.grad is None for parameter in target.parameters())


def test_the_first_order_gradient_is_that_of_finite_differences_with_the_proxys_own_gradient_held(target, proxy, batch):
    target_grads = gradients_of(target, proxy, batch)
    held = weight_gradients(proxy, batch, {name: proxy.get_submodule(name) for name in factors_of(proxy)})

    def loss():
        factors = factors_of(proxy)
        grads = {name: Factors(held[name] @ pair.down.T, pair.up.T @ held[name]) for name, pair in factors.items()}
        return alignment_loss(factors, grads, target_grads)

    found = torch.autograd.grad(
        alignment_loss(factors_of(proxy), first_order(proxy, batch), target_grads), variables(proxy)
    )
    for parameter, grad in zip(variables(proxy), found, strict=True):
        way = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        ends = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter.add_(way, alpha=step)
                ends.append(loss().item())
                parameter.sub_(way, alpha=step)
        assert (grad * way).sum().item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-9)


def test_the_anchor_is_the_forward_divergence_times_the_squared_temperature():
    target, proxy = torch.tensor([[2.0, 0.0]]).double(), torch.tensor([[0.0, 0.0]]).double()
    for tau in (1.0, 2.0):
        p = torch.softmax(target[0] / tau, dim=0)
        expected = tau**2 * sum(q * torch.log(q / 0.5) for q in p)
        assert anchor_loss(target, proxy, temperature=tau).item() == pytest.approx(expected.item(), rel=1e-12)
    assert anchor_loss(target, proxy, temperature=1.0) != pytest.approx(anchor_loss(proxy, target, temperature=1.0))


def test_losses_see_neither_padding_nor_the_logits_that_predict_no_answer(target, proxy, tokenized):
    alone = collate(tokenized[:1], pad_token_id=1)
    rows = [tokenized[0], max(tokenized, key=lambda row: len(row.input_ids))]
    padded = collate(rows, pad_token_id=1)
    n_answers = sum(label != -100 for label in tokenized[0].labels[1:])
    first, both = (
        anchor_loss(answer_logits(target, batch), answer_logits(proxy, batch), temperature=2.0)
        for batch in (alone, padded)
    )
    [target_logits, proxy_logits] = (answer_logits(model, padded)[:n_answers] for model in (target, proxy))
    assert anchor_loss(target_logits, proxy_logits, temperature=2.0).item() == pytest.approx(first.item(), rel=1e-9)
    assert both.item() != pytest.approx(first.item(), rel=1e-3)


def test_only_directions_of_gradients_count():
    pair = Factors(torch.randn(4, 2).double(), torch.randn(2, 3).double())
    grad = torch.randn(4, 3).double()
    exact = Factors(grad @ pair.down.T, pair.up.T @ grad)
    for scale, expected in ((3.0, 0.0), (-3.0, 2.0)):
        scaled = Factors(exact.up * scale, exact.down * scale)
        assert alignment_loss({"a": pair}, {"a": scaled}, {"a": grad}).item() == pytest.approx(expected, abs=1e-12)
