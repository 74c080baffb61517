from dataclasses import replace

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from lessexp.data.tokenize import collate
from lessexp.gradients.adam import AdamDirection, PlainGradient
from lessexp.gradients.per_example import (
    GradientFeatures,
    per_example_gradients,
    per_example_hooks,
)
from lessexp.gradients.projection import IdentityProjector, SparseSignProjector
from lessexp.models.causal_lm import load_causal_lm, per_example_loss
from lessexp.models.layer_passes import GradientShapeError
from lessexp.models.linear_layers import linear_layers
from lessexp.models.lora import attach_lora, lora_parameters
from lessexp.training.checkpoint import EpochCheckpoint, TrainerState
from tests.conftest import LORA, build_model, perturb_adapter

# float32 sums in another order; entries are of order 0.01 to 1.
TOLERANCE = dict(rtol=1e-4, atol=1e-6)


def gradients_one_at_a_time(model, rows, pad_token_id):
    """The slow and obvious way: autograd on each example alone, without padding."""
    parameters = lora_parameters(model)
    by_row = []
    for row in rows:
        loss = per_example_loss(model, collate([row], pad_token_id=pad_token_id)).sum()
        by_row.append(torch.autograd.grad(loss, list(parameters.values())))
    return {name: torch.stack([grads[i] for grads in by_row]) for i, name in enumerate(parameters)}


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 2, 0, 3, 1], [3]])
def test_batched_gradients_equal_autograd_one_example_at_a_time(lora_model, tokenized, tokenizer, order):
    picked = [tokenized[index] for index in order]
    batch = collate(picked, pad_token_id=tokenizer.pad_token_id)
    batched = per_example_gradients(lora_model, batch)
    expected = gradients_one_at_a_time(lora_model, picked, tokenizer.pad_token_id)
    assert list(batched) == list(lora_parameters(lora_model))
    for name, grad in expected.items():
        assert grad.abs().max() > 1e-3, f"{name} has no gradient, so the comparison would show nothing"
        torch.testing.assert_close(batched[name], grad, **TOLERANCE)


def gpt2(vocab_size):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(vocab_size=vocab_size, n_embd=32, n_layer=2, n_head=4, initializer_range=0.2)
        return GPT2LMHeadModel(config).eval()


@pytest.mark.parametrize(
    ("build", "endings", "shape"),
    [(build_model, ("q_proj", "down_proj"), (32, 64)), (gpt2, ("c_attn", "c_fc"), (32, 128))],
    ids=["linear", "transposed, with biases"],
)
def test_gradients_of_a_models_own_layers_equal_autograd(build, endings, shape, tokenized, tokenizer):
    model = build(len(tokenizer))
    rows = tokenized[:3]
    layers = linear_layers(model, endings, key="some.layers")
    batched = per_example_gradients(model, collate(rows, pad_token_id=1), layers=layers)
    wanted = {name: p for name, p in model.named_parameters() if name.rsplit(".", 1)[0] in layers}
    assert list(batched) == list(wanted)
    assert shape in {tuple(grad.shape[1:]) for grad in batched.values()}
    for index, row in enumerate(rows):
        alone = torch.autograd.grad(per_example_loss(model, collate([row], pad_token_id=1)).sum(), wanted.values())
        for name, grad in zip(wanted, alone, strict=True):
            # float32 sums in another order; a shift of all keys alike changes no attention, so that bias has ~0.
            torch.testing.assert_close(batched[name][index], grad, rtol=1e-3, atol=1e-4 * grad.abs().max().item())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_a_layer_that_joins_examples_is_refused(lora_model, batch):
    class Joined(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x).flatten(0, 1)

    model = torch.nn.Sequential(Joined(4, 4))
    with (
        pytest.raises(GradientShapeError, match=r"^0 gave \(6, 4\); its gradients need"),
        per_example_hooks(model, {"0": model[0]}, lambda name, grad: None),
    ):
        model(torch.zeros(2, 3, 4))


def test_gradients_are_taken_without_dropout_and_leave_the_model_as_it_was(model_folder, tokenized, batch):
    base = load_causal_lm(model_folder, dtype="float32", device="cpu")
    model = perturb_adapter(attach_lora(base, replace(LORA, dropout=0.3), seed=0)).eval()
    expected = gradients_one_at_a_time(model, tokenized[:5], pad_token_id=1)
    model.train()
    assert not torch.equal(per_example_loss(model, batch), per_example_loss(model, batch)), "no dropout in training"
    features = GradientFeatures(model, SparseSignProjector(proj_dim=64, seed=3, nonzeros=1), PlainGradient())
    for _ in range(2):
        for name, grad in per_example_gradients(model, batch).items():
            torch.testing.assert_close(grad, expected[name], **TOLERANCE)
        torch.testing.assert_close(features.compute(batch), features.projector.project(expected), **TOLERANCE)
    assert model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in lora_parameters(model).values())


def test_gradients_are_float32_over_a_bfloat16_model(model_folder, batch):
    model = perturb_adapter(attach_lora(load_causal_lm(model_folder, dtype="bfloat16", device="cpu"), LORA, seed=0))
    grads = per_example_gradients(model, batch)
    assert {grad.dtype for grad in grads.values()} == {torch.float32}
    assert all(grad.isfinite().all() for grad in grads.values())


def test_features_are_the_projection_of_the_whole_gradient(lora_model, batch):
    projector = SparseSignProjector(proj_dim=64, seed=3, nonzeros=2)
    streamed = GradientFeatures(lora_model, projector, PlainGradient()).compute(batch)
    whole = projector.project(per_example_gradients(lora_model, batch))
    torch.testing.assert_close(streamed, whole, rtol=1e-5, atol=1e-6)  # summed in another order


def test_identity_features_are_the_gradients_side_by_side(lora_model, batch):
    grads = per_example_gradients(lora_model, batch)
    offsets, width = {}, 0
    for name, grad in grads.items():
        offsets[name] = width
        width += grad[0].numel()
    features = GradientFeatures(lora_model, IdentityProjector(width, 0, offsets), PlainGradient()).compute(batch)
    expected = torch.cat([grad.flatten(1) for grad in grads.values()], dim=1)
    torch.testing.assert_close(features, expected, rtol=0, atol=0)


class Momentum:
    """A direction that is not zero where the gradient is, as Γ is not."""

    def __call__(self, name, start, tile):
        return tile.sign() + 1


@pytest.mark.parametrize(("bad", "expected"), [(0.0, 0.0), (float("nan"), float("nan")), (float("inf"), float("nan"))])
def test_a_row_without_a_gradient_has_no_features_whatever_the_direction(lora_model, batch, monkeypatch, bad, expected):
    def spoilt(model, batch):
        losses = per_example_loss(model, batch)
        return torch.cat([losses[:1], losses[1:2] * bad, losses[2:]])

    monkeypatch.setattr("lessexp.gradients.per_example.per_example_loss", spoilt)
    projector = SparseSignProjector(proj_dim=64, seed=3, nonzeros=1)
    features = GradientFeatures(lora_model, projector, Momentum()).compute(batch)
    torch.testing.assert_close(features[1], torch.full((64,), expected), equal_nan=True)
    assert features[[0, 2, 3, 4]].isfinite().all()
    assert (features[[0, 2, 3, 4]].norm(dim=1) > 0).all()


def test_features_do_not_depend_on_the_tiles(lora_model, batch, monkeypatch):
    generator = torch.Generator().manual_seed(2)
    shapes = {name: parameter.shape for name, parameter in lora_parameters(lora_model).items()}
    exp_avg, exp_avg_sq = (
        {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()} for _ in range(2)
    )
    state = TrainerState(epoch=1, step=9, betas=(0.9, 0.99), eps=1e-3, mean_learning_rate=1e-4, seed=0)
    gamma = AdamDirection(EpochCheckpoint({}, exp_avg, exp_avg_sq, state), eps_inside_sqrt=False, bias_correction=True)
    features = GradientFeatures(lora_model, SparseSignProjector(proj_dim=64, seed=3, nonzeros=1), gamma)
    whole = features.compute(batch)
    monkeypatch.setattr(GradientFeatures, "_cpu_tile", 7)
    torch.testing.assert_close(features.compute(batch), whole, **TOLERANCE)


def test_features_of_a_row_do_not_depend_on_its_batch(lora_model, tokenized, tokenizer):
    projector = SparseSignProjector(proj_dim=64, seed=3, nonzeros=1)
    features = GradientFeatures(lora_model, projector, PlainGradient())
    together = features.compute(collate(tokenized, pad_token_id=tokenizer.pad_token_id))
    for index in (0, 4, 11):
        alone = features.compute(collate([tokenized[index]], pad_token_id=tokenizer.pad_token_id))
        torch.testing.assert_close(together[index], alone[0], **TOLERANCE)
