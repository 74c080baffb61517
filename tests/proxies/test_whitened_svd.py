from functools import partial

import pytest
import torch

from lessexp.proxies import whitened_svd as module
from lessexp.proxies.compression import Compression, replace_layers
from lessexp.proxies.factors import ProxyError, as_derived, balanced
from lessexp.proxies.second_moments import SecondMoments, second_moments, with_gradient
from lessexp.proxies.svd import truncated_svd
from lessexp.proxies.whitened_svd import by_both, by_inputs, damped, ipsvd, whitened_svd
from tests.conftest import build_model

LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
OUT, IN, RANK, DAMPING = 7, 9, 3, 0.01


def random(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moments_of(inputs, output_grads):
    """From samples [n, in] and [n, out]."""
    n = len(inputs)
    return SecondMoments(inputs.T @ inputs / n, output_grads.T @ output_grads / n, n)


@pytest.fixture
def weight():
    return random(OUT, IN, seed=0)


@pytest.fixture
def samples():
    """More tokens than either side is wide, in very unequal directions; gradients tiny, as means over tokens are."""
    scales = torch.logspace(0, 2, IN, dtype=torch.float64)
    return random(40, IN, seed=1) * scales, random(40, OUT, seed=2) * scales[:OUT].flip(0) * 1e-4


def root_of(moment, damping=DAMPING):
    """Through a Cholesky factor in place of an eigendecomposition: norms do not see the difference."""
    return torch.linalg.cholesky(damped(moment, damping))


def whitened_norm(difference, moments):
    """‖C_δ^½ D C_h^½‖, both roots replaced by Cholesky factors L of the same moments: ‖L_δᵀ D L_h‖."""
    return (root_of(moments.output_grads).T @ difference @ root_of(moments.inputs)).norm()


def test_with_identities_for_moments_it_is_the_truncated_svd(weight):
    moments = SecondMoments(torch.eye(IN).double(), torch.eye(OUT).double(), 99)
    factors, _ = whitened_svd(weight, moments, RANK, damping=DAMPING)
    torch.testing.assert_close(factors.weight, truncated_svd(weight, RANK)[0].weight, rtol=1e-10, atol=1e-10)


def test_what_is_missed_is_what_the_singular_values_say_and_no_other_weight_misses_less(weight, samples):
    moments = moments_of(*samples)
    factors, values = whitened_svd(weight, moments, RANK, damping=DAMPING)
    missed = whitened_norm(weight - factors.weight, moments)
    assert missed.square().item() == pytest.approx(values[RANK:].square().sum().item(), rel=1e-10)
    activation, _ = whitened_svd(weight, by_inputs(moments), RANK, damping=DAMPING)
    others = [activation.weight, truncated_svd(weight, RANK)[0].weight]
    others += [random(OUT, RANK, seed=seed) @ random(RANK, IN, seed=seed + 1) for seed in range(10, 20)]
    # Near the best: small changes of its factors.
    others += [(factors.up * (1 + 1e-3 * random(OUT, RANK, seed=seed))) @ factors.down for seed in range(20, 30)]
    assert all(missed < whitened_norm(weight - other, moments) for other in others)


@pytest.mark.parametrize("weighing", [by_both, by_inputs])
def test_at_full_rank_the_weight_comes_back(weight, samples, weighing):
    factors, values = whitened_svd(weight, weighing(moments_of(*samples)), OUT, damping=DAMPING)
    # float64 through roots of condition 1e3.
    torch.testing.assert_close(factors.weight, weight, rtol=1e-9, atol=1e-9)
    assert len(values) == OUT


def test_gradients_on_another_scale_give_the_same_weight(weight, samples):
    inputs, output_grads = samples
    first, other = (
        whitened_svd(weight, moments_of(inputs, output_grads * scale), RANK, damping=DAMPING)[0].weight
        for scale in (1.0, 1e-3)
    )
    torch.testing.assert_close(other, first, rtol=1e-8, atol=1e-8)
    # An absolute term, by contrast, gives another weight: gradients no longer count.
    swamped = moments_of(inputs, output_grads * 1e-3)
    swamped.output_grads += 1e-3 * torch.eye(OUT)
    absolute = whitened_svd(weight, swamped, RANK, damping=0.0)[0].weight
    undamped = whitened_svd(weight, moments_of(*samples), RANK, damping=0.0)[0].weight
    assert (absolute - undamped).norm() > 0.1 * undamped.norm()
    activation_only = whitened_svd(weight, by_inputs(moments_of(*samples)), RANK, damping=0.0)[0].weight
    torch.testing.assert_close(absolute, activation_only, rtol=1e-3, atol=1e-3)  # what is left of the gradients


def test_where_inputs_and_gradients_are_independent_what_is_left_is_the_mean_squared_effect(weight, samples):
    inputs, output_grads = samples
    factors, values = whitened_svd(weight, moments_of(inputs, output_grads), RANK, damping=0.0)
    # Every input meets every gradient: independent by construction.
    effects = output_grads @ (weight - factors.weight) @ inputs.T
    assert effects.square().mean().item() == pytest.approx(values[RANK:].square().sum().item(), rel=1e-10)


def skinny(weight, inputs, output_grads, rank):
    """The paper's way: thin SVDs of the sampled tokens, and only what of W lies in their spans."""
    n = len(inputs)
    u_h, s_h, _ = torch.linalg.svd(inputs.T, full_matrices=False)
    u_d, s_d, _ = torch.linalg.svd(output_grads.T, full_matrices=False)
    d_h, d_d = s_h / n**0.5, s_d / n**0.5
    p, s, qt = torch.linalg.svd(d_d[:, None] * (u_d.T @ weight @ u_h) * d_h, full_matrices=False)
    up = u_d @ (p[:, :rank] * s[:rank].sqrt() / d_d[:, None])
    return up @ (s[:rank].sqrt()[:, None] * qt[:rank] / d_h @ u_h.T)


def test_tokens_that_span_both_sides_give_what_the_papers_thin_form_gives(weight, samples):
    streamed = whitened_svd(weight, moments_of(*samples), RANK, damping=1e-13)[0].weight
    torch.testing.assert_close(streamed, skinny(weight, *samples, RANK), rtol=1e-6, atol=1e-6)  # the damping


def test_too_few_tokens_are_refused_in_place_of_losing_what_they_do_not_span(weight, samples):
    inputs, output_grads = samples
    with pytest.raises(ProxyError, match=r"singular; raise proxy\.damping"):
        whitened_svd(weight, moments_of(inputs[:5], output_grads[:5]), RANK, damping=0.0)
    with pytest.raises(ProxyError, match="rank 3 from 2 tokens"):
        whitened_svd(weight, moments_of(inputs[:2], output_grads[:2]), RANK, damping=DAMPING)
    # With damping all of the weight counts, also what five tokens do not see; the thin form drops that.
    few = moments_of(inputs[:5], output_grads[:5])
    streamed = whitened_svd(weight, few, 5, damping=DAMPING)[0].weight
    thin = skinny(weight, inputs[:5], output_grads[:5], 5)
    assert whitened_norm(weight - streamed, few) < 0.9 * whitened_norm(weight - thin, few)


SETTINGS = dict(
    sparsity=0.5,
    rank_multiple=8,
    layers=LAYERS,
    damping=DAMPING,
    positions=with_gradient,
    weighing=by_both,
    split=balanced,
    moment_bytes=1e9,
)


@pytest.fixture
def model(tokenizer):
    return build_model(len(tokenizer)).double()


def test_every_layer_gets_the_factors_of_its_own_moments_and_a_record(model, batch):
    made = ipsvd(model, [batch], **SETTINGS)
    names = [name for name, _ in model.named_modules() if name.endswith(LAYERS)]
    assert list(made.factors) == [report.name for report in made.layers] == names
    layers = {name: model.get_submodule(name) for name in names}
    moments = second_moments(model, [batch], layers, positions=with_gradient)
    for report in made.layers:
        weight = model.get_submodule(report.name).weight.detach()
        assert report.rank == (16 if "mlp" in report.name else 8)
        assert report.sparsity == pytest.approx(1 - report.rank * sum(weight.shape) / weight.numel())
        assert report.n_positions == moments[report.name].n_positions
        difference = whitened_norm(weight - made.factors[report.name].weight, moments[report.name])
        assert difference / whitened_norm(weight, moments[report.name]) == pytest.approx(report.error, rel=1e-6)
        pair = made.factors[report.name]
        torch.testing.assert_close(pair.up.T @ pair.up, pair.down @ pair.down.T, rtol=1e-8, atol=1e-8)


def test_moments_held_a_few_at_a_time_and_other_splits_give_the_same_weights(model, batch, monkeypatch):
    passes = []
    counted = lambda *args, **kwargs: passes.append(len(args[2])) or second_moments(*args, **kwargs)  # noqa: E731
    monkeypatch.setattr(module, "second_moments", counted)
    whole = ipsvd(model, [batch], **SETTINGS)
    parts = ipsvd(model, [batch], **SETTINGS | {"moment_bytes": 30e3, "split": as_derived})
    assert passes[0] == 14 and len(passes) > 3 and sum(passes[1:]) == 14
    assert list(parts.factors) == list(whole.factors)
    for name, factors in whole.factors.items():
        torch.testing.assert_close(parts.factors[name].weight, factors.weight, rtol=1e-8, atol=1e-8)


def test_a_proxy_of_full_rank_keeps_the_logits(model, batch, tokenizer):
    layers = {name: layer for name, layer in model.named_modules() if name.endswith(LAYERS)}
    moments = second_moments(model, [batch], layers, positions=with_gradient)
    factors = {}
    for name, layer in layers.items():
        # As many as a narrow layer's tokens allow: the tiny batch spans all.
        pair, _ = whitened_svd(layer.weight.detach(), moments[name], min(layer.weight.shape), damping=DAMPING)
        factors[name] = balanced(pair)
    proxy = replace_layers(build_model(len(tokenizer)).double(), factors)
    # float64 through roots whose condition is up to 1e5.
    torch.testing.assert_close(
        proxy(input_ids=batch.input_ids).logits, model(input_ids=batch.input_ids).logits, rtol=1e-7, atol=1e-7
    )


def test_a_layer_that_fails_is_named_and_fails_the_proxy(model, batch):
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.zero_()  # what is below it gets no gradient through it
    few = partial(ipsvd, model, [batch], **SETTINGS | {"layers": ("gate_proj",)})
    with pytest.raises(ProxyError, match=r"layers\.1\.mlp\.gate_proj: no token of the probes reaches it"):
        few()
    assert isinstance(ipsvd(model, [batch], **SETTINGS | {"layers": ("q_proj",)}), Compression)


@pytest.mark.parametrize("error", [ProxyError("rank 9 from 2 tokens"), torch.linalg.LinAlgError("no convergence")])
def test_a_layer_that_cannot_be_decomposed_is_named_and_never_left_out(model, batch, monkeypatch, error):
    decompose, decomposed = module.whitened_svd, []

    def fail_at_the_second(*args, **settings):
        decomposed.append(args)
        if len(decomposed) == 2:
            raise error
        return decompose(*args, **settings)

    monkeypatch.setattr(module, "whitened_svd", fail_at_the_second)
    with pytest.raises(ProxyError, match=rf"^model\.layers\.1\.self_attn\.q_proj: {error}"):
        ipsvd(model, [batch], **SETTINGS | {"layers": ("q_proj",)})
