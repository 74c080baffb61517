from dataclasses import replace

import pytest
import torch

from lessexp.data.datamodule import epoch_order
from lessexp.data.tokenize import collate
from lessexp.models.causal_lm import per_example_loss
from lessexp.models.lora import lora_parameters
from lessexp.training.schedule import linear_factor
from tests.training.conftest import SETTINGS


def train_by_hand(model, rows, settings, *, seed, pad_token_id):
    """The plain loop that the Lightning module stands for: whole batches, no accumulation."""
    parameters = list(lora_parameters(model).values())
    optimizer = torch.optim.AdamW(parameters, betas=settings.betas, eps=settings.eps, weight_decay=0.0)
    steps_per_epoch = -(-len(rows) // settings.batch_size)
    total, step = settings.epochs * steps_per_epoch, 0
    rise = -int(-total * settings.warmup_ratio // 1)
    for epoch in range(settings.epochs):
        order = epoch_order(len(rows), seed=seed, epoch=epoch)
        for start in range(0, len(rows), settings.batch_size):
            step += 1
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * linear_factor(step, total_steps=total, warmup_steps=rise)
            batch = collate([rows[i] for i in order[start : start + settings.batch_size]], pad_token_id=pad_token_id)
            optimizer.zero_grad()
            per_example_loss(model, batch).mean().backward()
            torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
            optimizer.step()
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


def test_training_lowers_the_loss(fresh_model, train, tokenized, tokenizer):
    batch = collate(tokenized, pad_token_id=tokenizer.pad_token_id)
    before = per_example_loss(fresh_model(), batch).mean()
    after = per_example_loss(train(fresh_model()), batch).mean()
    assert after < before - 0.05
