import pytest
import torch
from pytorch_lightning.loggers import CSVLogger

from lessexp.models.lora import lora_parameters, read_adapter
from lessexp.training.checkpoint import checkpoints_in, read_checkpoint


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
            for name in first.adapter:  # the same operations on the same numbers
                assert torch.equal(first.adapter[name], second.adapter[name])
                assert torch.equal(first.exp_avg_sq[name], second.exp_avg_sq[name])


def test_the_model_ends_as_its_last_checkpoint_in_evaluation_mode(fresh_model, train, tmp_path):
    model = train(fresh_model(), checkpoint_root=tmp_path / "warmup")
    adapter = read_adapter(checkpoints_in(tmp_path / "warmup")[-1])
    assert all(torch.equal(adapter[name], parameter) for name, parameter in lora_parameters(model).items())
    assert not model.training


def test_loss_and_learning_rate_of_every_step_are_logged(fresh_model, train, tmp_path):
    logger = CSVLogger(tmp_path, name="csv", version="")
    train(fresh_model(), micro_batch_size=4, loggers=[logger])
    header, *lines = (tmp_path / "csv" / "metrics.csv").read_text().splitlines()
    assert {"warmup/loss", "warmup/learning_rate"} <= set(header.split(","))
    assert len(lines) == 9
