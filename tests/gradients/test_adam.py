from dataclasses import replace

import pytest
import torch

from lessexp.data.tokenize import collate
from lessexp.gradients.adam import AdamDirection, PlainGradient, SignDirection, adam_direction
from lessexp.gradients.per_example import per_example_gradients
from lessexp.models.causal_lm import load_causal_lm, per_example_loss
from lessexp.models.lora import attach_lora, copy_into, lora_parameters
from lessexp.training.checkpoint import EpochCheckpoint, TrainerState, checkpoints_in, read_checkpoint
from lessexp.training.fit import fit
from lessexp.training.trainer import Engine
from tests.conftest import LORA
from tests.training.conftest import SETTINGS


@pytest.fixture(scope="module")
def warmup(model_folder, tokenizer, chat_format, tmp_path_factory):
    """A warm-up run for real: twelve rows, three epochs, checkpoints on disk."""
    from lessexp.data.tokenize import tokenize_rows
    from tests.conftest import make_rows

    rows, _ = tokenize_rows(make_rows(12), tokenizer=tokenizer, chat_format=chat_format, max_length=512)
    root = tmp_path_factory.mktemp("warmup")
    fit(
        attach_lora(load_causal_lm(model_folder, dtype="float32", device="cpu"), LORA, seed=0),
        rows,
        replace(SETTINGS, learning_rate=2e-2),
        micro_batch_size=4,
        pad_token_id=tokenizer.pad_token_id,
        seed=0,
        log_prefix="warmup",
        engine=Engine("cpu"),
        loggers=[],
        log_folder=root,
        checkpoint_root=root,
    )
    return root


@pytest.fixture
def warmed_up(warmup, model_folder):
    """The model at the second epoch's checkpoint, and the checkpoint."""
    checkpoint = read_checkpoint(checkpoints_in(warmup)[1])
    model = attach_lora(load_causal_lm(model_folder, dtype="float32", device="cpu"), LORA, seed=5).eval()
    copy_into(model, checkpoint.parameters)
    return model, checkpoint


def whole(direction, name, grad):
    """A direction over all of a parameter at once, leaving ``grad`` as it is."""
    return direction(name, 0, grad.flatten(1).clone()).view_as(grad)


def step_of_torch_adamw(model, checkpoint, batch, learning_rate):
    """Change of every parameter in one real optimizer step on one example, from the moments on disk."""
    parameters = lora_parameters(model)
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    state = checkpoint.state
    optimizer = torch.optim.AdamW(
        parameters.values(), lr=learning_rate, betas=state.betas, eps=state.eps, weight_decay=0.0
    )
    for name, parameter in parameters.items():
        optimizer.state[parameter] = {
            "step": torch.tensor(float(state.step)),
            "exp_avg": checkpoint.exp_avg[name].clone(),
            "exp_avg_sq": checkpoint.exp_avg_sq[name].clone(),
        }
    per_example_loss(model, batch).sum().backward()
    optimizer.step()
    change = {name: parameter.detach() - before[name] for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        parameter.grad = None
        parameter.data.copy_(before[name])
    return change


def test_direction_equals_the_step_torch_adamw_takes(warmed_up, tokenized, tokenizer):
    model, checkpoint = warmed_up
    rows = tokenized[:3]
    direction = AdamDirection(checkpoint, eps_inside_sqrt=False, bias_correction=True)
    grads = per_example_gradients(model, collate(rows, pad_token_id=tokenizer.pad_token_id))
    for index, row in enumerate(rows):
        alone = collate([row], pad_token_id=tokenizer.pad_token_id)
        # A learning rate of one makes the step itself readable in float32; the direction does not depend on it.
        change = step_of_torch_adamw(model, checkpoint, alone, learning_rate=1.0)
        for name, grad in grads.items():
            gamma = whole(direction, name, grad)[index]
            assert gamma.abs().max() > 0.05
            # Gradients from two batch shapes differ by rounding, which the root of a small v magnifies.
            torch.testing.assert_close(gamma, -change[name], rtol=2e-3, atol=2e-4)


def test_a_small_real_step_changes_the_target_loss_by_the_product_of_gradients(warmed_up, tokenized, tokenizer):
    model, checkpoint = warmed_up
    model.double()
    train_rows, target = tokenized[:4], collate([tokenized[6]], pad_token_id=tokenizer.pad_token_id)
    learning_rate = 1e-5
    checkpoint = replace(
        checkpoint,
        exp_avg={name: tensor.double() for name, tensor in checkpoint.exp_avg.items()},
        exp_avg_sq={name: tensor.double() for name, tensor in checkpoint.exp_avg_sq.items()},
    )
    target_grads = per_example_gradients(model, target)
    direction = AdamDirection(checkpoint, eps_inside_sqrt=False, bias_correction=True)
    for row in train_rows:
        batch = collate([row], pad_token_id=tokenizer.pad_token_id)
        gammas = {name: whole(direction, name, grad)[0] for name, grad in per_example_gradients(model, batch).items()}
        predicted = -learning_rate * sum((target_grads[name][0] * gammas[name]).sum() for name in gammas)
        change = step_of_torch_adamw(model, checkpoint, batch, learning_rate)
        before = loss_of(model, target)
        for name, parameter in lora_parameters(model).items():
            parameter.data += change[name]
        after = loss_of(model, target)
        for name, parameter in lora_parameters(model).items():
            parameter.data -= change[name]
        # Second-order terms are of the order of the learning rate; 3 % leaves room for curvature.
        assert (after - before).item() == pytest.approx(predicted.item(), rel=0.03)


def loss_of(model, batch):
    """The batch's loss in float64, which `per_example_loss` rounds to float32."""
    logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten()).detach()


def test_the_released_variant_turns_into_momentum_where_squares_are_small():
    grad = torch.tensor([[1e-7, -2e-7]])
    exp_avg, exp_avg_sq = torch.tensor([3e-7, 1e-7]), torch.tensor([1e-13, 1e-13])
    settings = dict(step=10, betas=(0.9, 0.999), eps=1e-8)
    released = adam_direction(grad, exp_avg, exp_avg_sq, **settings, eps_inside_sqrt=True, bias_correction=False)
    momentum = 0.9 * exp_avg + 0.1 * grad
    torch.testing.assert_close(released, momentum / 1e-4, rtol=1e-4, atol=0)
    ours = adam_direction(grad, exp_avg, exp_avg_sq, **settings)
    assert (ours.abs() > 10 * released.abs()).all()


@pytest.mark.parametrize("bias_correction", [True, False])
@pytest.mark.parametrize("eps_inside_sqrt", [True, False])
def test_every_variant_is_its_formula(bias_correction, eps_inside_sqrt):
    generator = torch.Generator().manual_seed(0)
    grad = torch.randn(3, 4, 5, generator=generator)
    m, v = torch.randn(4, 5, generator=generator), torch.rand(4, 5, generator=generator)
    found = adam_direction(
        grad,
        m,
        v,
        step=7,
        betas=(0.8, 0.95),
        eps=0.1,
        eps_inside_sqrt=eps_inside_sqrt,
        bias_correction=bias_correction,
    )
    for example in range(3):
        for index in torch.cartesian_prod(torch.arange(4), torch.arange(5)).tolist():
            g = grad[example][tuple(index)].item()
            mean = 0.8 * m[tuple(index)].item() + 0.2 * g
            square = 0.95 * v[tuple(index)].item() + 0.05 * g * g
            if bias_correction:
                mean, square = mean / (1 - 0.8**7), square / (1 - 0.95**7)
            root = (square + 0.1) ** 0.5 if eps_inside_sqrt else square**0.5 + 0.1
            assert found[example][tuple(index)].item() == pytest.approx(mean / root, rel=1e-5)  # float32


def test_steps_count_from_one():
    with pytest.raises(ValueError, match="counts from 1, got 0"):
        adam_direction(torch.ones(1, 1), torch.ones(1), torch.ones(1), step=0, betas=(0.9, 0.999), eps=1e-8)


def test_sgd_and_sign_need_no_moments():
    grad = torch.tensor([[-2.0, 0.0, 0.5]])
    assert torch.equal(PlainGradient()("name", 0, grad), grad)
    assert torch.equal(SignDirection()("name", 0, grad), torch.tensor([[-1.0, 0.0, 1.0]]))


@pytest.fixture
def random_checkpoint():
    generator = torch.Generator().manual_seed(3)
    moments = {"a": torch.randn(5, 7, generator=generator)}, {"a": torch.rand(5, 7, generator=generator)}
    return EpochCheckpoint({"a": torch.zeros(5, 7)}, *moments, TrainerState(1, 9, (0.9, 0.99), 1e-3, 1e-4, 0))


@pytest.mark.parametrize("bias_correction", [True, False])
@pytest.mark.parametrize("eps_inside_sqrt", [True, False])
def test_tiles_of_the_fast_direction_equal_the_formula(random_checkpoint, bias_correction, eps_inside_sqrt):
    variant = dict(bias_correction=bias_correction, eps_inside_sqrt=eps_inside_sqrt)
    grad = torch.randn(4, 5, 7, generator=torch.Generator().manual_seed(4))
    state = random_checkpoint.state
    settings = dict(step=10, betas=state.betas, eps=state.eps)
    moments = random_checkpoint.exp_avg["a"], random_checkpoint.exp_avg_sq["a"]
    expected = adam_direction(grad, *moments, **settings, **variant)
    direction = AdamDirection(random_checkpoint, **variant)
    for width in (1, 8, 35):
        tiles = [direction("a", i, grad.flatten(1)[:, i : i + width].clone()) for i in range(0, 35, width)]
        torch.testing.assert_close(torch.cat(tiles, dim=1), expected.flatten(1), rtol=1e-5, atol=1e-6)  # float32


def test_centered_leaves_out_what_momentum_alone_gives(random_checkpoint):
    variant = dict(bias_correction=True, eps_inside_sqrt=False)
    grad = torch.randn(4, 35, generator=torch.Generator().manual_seed(4))
    gamma = AdamDirection(random_checkpoint, **variant)("a", 0, grad.clone())
    centered = AdamDirection(random_checkpoint, **variant, centered=True)("a", 0, grad.clone())
    square = (0.99 * random_checkpoint.exp_avg_sq["a"].flatten() + 0.01 * grad**2) / (1 - 0.99**10)
    shared = 0.9 * random_checkpoint.exp_avg["a"].flatten() / (1 - 0.9**10)
    torch.testing.assert_close(gamma - centered, shared / (square.sqrt() + 1e-3), rtol=1e-4, atol=1e-5)
    # A row without a gradient of its own has no direction of its own.
    nothing = AdamDirection(random_checkpoint, **variant, centered=True)("a", 0, torch.zeros(1, 35))
    assert torch.equal(nothing, torch.zeros(1, 35))
