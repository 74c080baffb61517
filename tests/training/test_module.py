import json
import os
from dataclasses import replace

import pytest
import torch
from transformers import get_scheduler

from lessexp.data.datamodule import epoch_order
from lessexp.data.tokenize import collate
from lessexp.models.causal_lm import per_example_loss
from lessexp.models.lora import lora_parameters
from lessexp.training.checkpoint import checkpoints_in, read_checkpoint
from lessexp.training.module import DivergedError
from lessexp.training.trainer import Engine
from tests.conftest import perturb_adapter
from tests.teams import run_team
from tests.training.conftest import SETTINGS

UNCLIPPED = 1e6  # Adam's steps and a clipped gradient hide a loss of another scale


def train_by_hand(model, rows, settings, *, seed, pad_token_id):
    """The plain loop that the Lightning module stands for: whole batches, no accumulation."""
    parameters = list(lora_parameters(model).values())
    optimizer = torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )
    steps_per_epoch = -(-len(rows) // settings.batch_size)
    total = settings.epochs * steps_per_epoch
    scheduler = get_scheduler(
        {"constant": "constant_with_warmup"}.get(settings.schedule, settings.schedule),
        optimizer,
        num_warmup_steps=-int(-total * settings.warmup_ratio // 1),
        num_training_steps=total,
    )
    for epoch in range(settings.epochs):
        order = epoch_order(len(rows), seed=seed, epoch=epoch)
        for start in range(0, len(rows), settings.batch_size):
            batch = collate([rows[i] for i in order[start : start + settings.batch_size]], pad_token_id=pad_token_id)
            optimizer.zero_grad()
            per_example_loss(model, batch).mean().backward()
            torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
            optimizer.step()
            scheduler.step()
    return model


# Batches of 5 out of 12 rows leave a last step of 2; micro-batches change only the order of sums.
@pytest.mark.parametrize(("batch_size", "micro_batch_size"), [(4, 4), (4, 2), (5, 1)])
def test_training_equals_the_plain_loop_whatever_the_micro_batches(
    fresh_model, train, tokenized, tokenizer, batch_size, micro_batch_size
):
    settings = replace(SETTINGS, batch_size=batch_size)
    trained = train(fresh_model(), settings, micro_batch_size=micro_batch_size)
    by_hand = train_by_hand(fresh_model(), tokenized, settings, seed=7, pad_token_id=tokenizer.pad_token_id)
    start = lora_parameters(fresh_model())
    for name, parameter in lora_parameters(by_hand).items():
        assert not torch.equal(parameter, start[name])
        # Adam divides by the root of tiny squares, which magnifies rounding; a step is of order 5e-3.
        torch.testing.assert_close(lora_parameters(trained)[name], parameter, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 1},
        {"batch_size": 12},
        {"learning_rate": 1e-3},
        {"schedule": "constant"},
        {"schedule": "cosine"},
        {"warmup_ratio": 0.6},
        {"betas": (0.5, 0.8)},
        {"eps": 1e-2},
        {"weight_decay": 0.5},
        {"max_grad_norm": 0.02},
    ],
    ids=lambda change: "=".join(map(str, *change.items())),
)
def test_every_setting_acts_as_it_does_in_the_plain_loop(fresh_model, train, tokenized, tokenizer, change):
    def by_hand(settings):
        model = perturb_adapter(fresh_model())
        return lora_parameters(train_by_hand(model, tokenized, settings, seed=7, pad_token_id=tokenizer.pad_token_id))

    settings = replace(SETTINGS, **{"eps": 1e-4} | change)  # a larger ε: Adam's step depends on the gradient's size
    expected, ignored = by_hand(settings), by_hand(replace(SETTINGS, eps=1e-4))
    found = lora_parameters(train(perturb_adapter(fresh_model()), settings))
    for name, parameter in expected.items():
        torch.testing.assert_close(found[name], parameter, rtol=1e-4, atol=1e-5)  # sums in another order
        assert (parameter - ignored[name]).abs().max() > 2e-4, "the setting changes nothing here"


@pytest.mark.parametrize("micro_batch_size", [12, 5, 1])
def test_the_moments_after_one_step_are_those_of_the_mean_of_single_gradients(
    fresh_model, train, tokenized, tmp_path, micro_batch_size
):
    """The scale of Adam's moments against that of one example's gradient decides what Γ is."""
    settings = replace(SETTINGS, epochs=1, batch_size=12, max_grad_norm=UNCLIPPED)
    model = perturb_adapter(fresh_model())
    alone = [
        torch.autograd.grad(
            model(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([row.labels])).loss,
            list(lora_parameters(model).values()),
        )
        for row in tokenized
    ]
    means = {name: sum(grads) / 12 for name, *grads in zip(lora_parameters(model), *alone, strict=True)}
    train(model, settings, micro_batch_size=micro_batch_size, checkpoint_root=tmp_path / "warmup")
    [folder] = checkpoints_in(tmp_path / "warmup")
    checkpoint = read_checkpoint(folder)
    beta1, beta2 = settings.betas
    for name, mean in means.items():
        # float32 sums in another order
        torch.testing.assert_close(checkpoint.exp_avg[name], (1 - beta1) * mean, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(checkpoint.exp_avg_sq[name], (1 - beta2) * mean.square(), rtol=2e-3, atol=1e-9)
        assert mean.abs().max() > 1e-3, "a gradient that shows nothing"


def train_in_a_team(team, fresh_model, train, root, settings):
    """What each process of `lessexp.worker` does, with the variables that torchrun sets."""
    numbers = {"RANK": team.rank, "WORLD_SIZE": team.size, "LOCAL_RANK": team.local_rank}
    numbers |= {"LOCAL_WORLD_SIZE": team.local_size, "GROUP_RANK": 0, "TORCHELASTIC_RUN_ID": "a"}
    os.environ |= {name: str(value) for name, value in numbers.items()}
    train(perturb_adapter(fresh_model()), settings, engine=Engine("cpu", team), checkpoint_root=root)


def noted_dropout(model):
    """What dropout would draw at each forward pass of a training that is still to come."""
    drawn = []

    def note(dropout, _):
        generator = torch.Generator()
        generator.set_state(torch.get_rng_state())
        drawn.append(torch.rand(1, generator=generator).item() if dropout.training else None)

    next(module for module in model.modules() if isinstance(module, torch.nn.Dropout)).register_forward_pre_hook(note)
    return drawn


def test_the_seed_draws_dropout_anew_for_every_micro_batch_of_every_epoch(fresh_model, train):
    drawn = {}
    for run, seed in {"first": 7, "again": 7, "other": 8}.items():
        model = fresh_model(dropout=0.3)
        drawn[run] = noted_dropout(model)
        train(model, seed=seed, micro_batch_size=2)
    assert drawn["first"] == drawn["again"]
    assert len({*drawn["first"], *drawn["other"]} - {None}) == 2 * 18  # three epochs of twelve rows each


def note_dropout_in_a_team(team, fresh_model, train, folder):
    model = fresh_model(dropout=0.3)
    drawn = noted_dropout(model)
    train_in_a_team(team, lambda: model, train, None, SETTINGS)
    (folder / f"{team.rank}.json").write_text(json.dumps(drawn))


def test_processes_draw_dropout_of_their_own(fresh_model, train, tmp_path):
    assert run_team(2, note_dropout_in_a_team, fresh_model, train, tmp_path) == [0, 0]
    drawn = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert len({*drawn[0], *drawn[1]}) == len(drawn[0]) + len(drawn[1]) == 18


@pytest.mark.parametrize("batch_size", [4, 5])
def test_processes_leave_the_moments_that_one_leaves(fresh_model, train, tmp_path, batch_size):
    settings = replace(SETTINGS, batch_size=batch_size, epochs=1, eps=1e-3, max_grad_norm=UNCLIPPED)
    train(perturb_adapter(fresh_model()), settings, checkpoint_root=tmp_path / "one")
    assert run_team(2, train_in_a_team, fresh_model, train, tmp_path / "two", settings) == [0, 0]
    [alone], [together] = (map(read_checkpoint, checkpoints_in(tmp_path / name)) for name in ("one", "two"))
    assert together.state == alone.state
    for part in ("parameters", "exp_avg", "exp_avg_sq"):
        for name, value in getattr(alone, part).items():  # the same sums, added up in another order
            torch.testing.assert_close(getattr(together, part)[name], value, rtol=1e-3, atol=1e-6)


def test_training_lowers_the_loss(fresh_model, train, tokenized, tokenizer):
    batch = collate(tokenized, pad_token_id=tokenizer.pad_token_id)
    before = per_example_loss(fresh_model(), batch).mean()
    after = per_example_loss(train(fresh_model()), batch).mean()
    assert after < before - 0.05


def test_a_loss_that_is_not_finite_ends_training_at_its_step(fresh_model, train, tmp_path):
    settings = replace(SETTINGS, learning_rate=1e30, batch_size=4, warmup_ratio=0.0, schedule="constant")
    with pytest.raises(
        DivergedError, match=r"^warmup: the loss is not finite in step 2 of \d+; lower warmup\.training\.learning_rate"
    ):
        train(fresh_model(), settings, checkpoint_root=tmp_path)
    assert checkpoints_in(tmp_path) == []


def test_a_model_that_is_not_finite_is_told_from_a_training_that_diverges(fresh_model, train):
    model = fresh_model()
    with torch.no_grad():
        next(iter(model.parameters())).fill_(torch.nan)
    with pytest.raises(DivergedError, match=r"not finite in step 1 .*; nothing is trained yet, so check the model's"):
        train(model, SETTINGS)


def test_weights_that_are_not_finite_are_not_kept(fresh_model, train, tmp_path, monkeypatch):
    step = torch.optim.AdamW.step

    def overflows(optimizer, closure):
        step(optimizer, closure)
        optimizer.param_groups[0]["params"][-1].data[0, 0] = torch.inf

    monkeypatch.setattr(torch.optim.AdamW, "step", overflows)
    with pytest.raises(DivergedError, match=r"^warmup: weights are not finite after step 1 of 1; lower warmup\."):
        train(fresh_model(), replace(SETTINGS, batch_size=64, epochs=1), checkpoint_root=tmp_path)
    assert checkpoints_in(tmp_path) == []
