from dataclasses import replace

import pytest
import torch
from pytorch_lightning.loggers import CSVLogger

from lessexp.data.tokenize import collate
from lessexp.models.causal_lm import load_causal_lm, per_example_loss
from lessexp.models.lora import lora_parameters, read_adapter
from lessexp.training.checkpoint import checkpoints_in, read_checkpoint
from lessexp.training.trained_part import ALL_WEIGHTS
from lessexp.training.trainer import Engine
from tests.training.conftest import SETTINGS


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_run_stopped_and_resumed_equals_one_in_one_go(fresh_model, train, tmp_path, dropout):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    train(fresh_model(dropout), checkpoint_root=whole)
    train(fresh_model(dropout), checkpoint_root=resumed)
    for stopped_after in (1, 2):
        for folder in checkpoints_in(resumed)[stopped_after:]:
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
        last = checkpoints_in(resumed)[-1]
        train(fresh_model(dropout), checkpoint_root=resumed, resume_from=read_checkpoint(last))
        for ours, theirs in zip(checkpoints_in(resumed), checkpoints_in(whole), strict=True):
            first, second = read_checkpoint(ours), read_checkpoint(theirs)
            assert first.state == second.state
            for name in first.parameters:  # the same operations on the same numbers
                assert torch.equal(first.parameters[name], second.parameters[name])
                assert torch.equal(first.exp_avg_sq[name], second.exp_avg_sq[name])


def test_the_model_ends_as_its_last_checkpoint_in_evaluation_mode(fresh_model, train, tmp_path):
    model = train(fresh_model(), checkpoint_root=tmp_path / "warmup")
    adapter = read_adapter(checkpoints_in(tmp_path / "warmup")[-1])
    assert all(torch.equal(adapter[name], parameter) for name, parameter in lora_parameters(model).items())
    assert not model.training


def test_activations_computed_twice_train_the_same_and_are_kept_no_longer(fresh_model, train):
    passes = {}

    def trained(engine):
        model = fresh_model(dropout=0.3)
        layer = model.get_base_model().model.layers[0].self_attn.q_proj
        passes[engine] = 0
        layer.register_forward_hook(lambda *_: passes.update({engine: passes[engine] + 1}))
        return lora_parameters(train(model, engine=engine)), model

    plain, twice = Engine("cpu"), Engine("cpu", activation_checkpointing=True)
    (expected, _), (found, model) = trained(plain), trained(twice)
    assert passes[twice] == 2 * passes[plain] > 0
    assert all(torch.equal(found[name], parameter) for name, parameter in expected.items())
    assert not any(layer.gradient_checkpointing for layer in model.get_base_model().model.layers)


def test_all_weights_are_trained_as_adamw_trains_them_by_hand(model_folder, tokenized, tokenizer, train):
    def load():
        return load_causal_lm(model_folder, dtype="float32", device="cpu").requires_grad_(True)

    settings = replace(SETTINGS, epochs=1, batch_size=12, eps=1e-3, schedule="constant", warmup_ratio=0.0)
    trained, by_hand = train(load(), settings, part=ALL_WEIGHTS, micro_batch_size=5), load().train()
    optimizer = torch.optim.AdamW(by_hand.parameters(), lr=settings.learning_rate, eps=1e-3, weight_decay=0.0)
    per_example_loss(by_hand, collate(tokenized, pad_token_id=tokenizer.pad_token_id)).mean().backward()
    torch.nn.utils.clip_grad_norm_(by_hand.parameters(), settings.max_grad_norm)
    optimizer.step()
    before = dict(load().named_parameters())
    expected = dict(by_hand.named_parameters())
    for name, parameter in trained.named_parameters():
        assert not torch.equal(parameter, before[name])
        torch.testing.assert_close(parameter, expected[name], rtol=1e-4, atol=1e-7)


def test_loss_and_learning_rate_of_every_step_are_logged(fresh_model, train, tmp_path):
    logger = CSVLogger(tmp_path, name="csv", version="")
    train(fresh_model(), micro_batch_size=4, loggers=[logger])
    header, *lines = (tmp_path / "csv" / "metrics.csv").read_text().splitlines()
    assert {"warmup/loss", "warmup/learning_rate"} <= set(header.split(","))
    assert len(lines) == 9
