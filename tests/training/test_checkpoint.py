import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from lessexp.models.lora import AdapterMismatchError, lora_parameters
from lessexp.training.checkpoint import (
    OptimizerStateError,
    TrainerState,
    checkpoints_in,
    epoch_folder,
    moments_by_name,
    read_checkpoint,
    write_checkpoint,
)

STATE = TrainerState(epoch=2, step=6, betas=(0.9, 0.999), eps=1e-8, mean_learning_rate=1e-3, seed=7)


@pytest.fixture
def stepped(lora_model):
    """The tiny model and an optimizer that has taken a step on random gradients."""
    generator = torch.Generator().manual_seed(0)
    parameters = lora_parameters(lora_model).values()
    optimizer = torch.optim.AdamW(parameters)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()
    return lora_model, optimizer


def test_what_was_written_is_read_back(stepped, tmp_path):
    model, optimizer = stepped
    write_checkpoint(tmp_path / "epoch=2", model, optimizer, STATE)
    checkpoint = read_checkpoint(tmp_path / "epoch=2")
    assert checkpoint.state == STATE
    for name, parameter in lora_parameters(model).items():
        assert torch.equal(checkpoint.adapter[name], parameter)
        assert torch.equal(checkpoint.exp_avg[name], optimizer.state[parameter]["exp_avg"])
        assert torch.equal(checkpoint.exp_avg_sq[name], optimizer.state[parameter]["exp_avg_sq"])


def test_the_files_are_the_documented_ones_and_none_is_a_pickle(stepped, tmp_path):
    write_checkpoint(tmp_path / "epoch=2", *stepped, STATE)
    files = {path.name for path in (tmp_path / "epoch=2").iterdir()} - {"README.md"}
    assert files == {
        "adapter_model.safetensors",
        "adapter_config.json",
        "adam_moments.safetensors",
        "trainer_state.json",
    }
    assert set(json.loads((tmp_path / "epoch=2" / "trainer_state.json").read_text())) >= {
        "step",
        "betas",
        "eps",
        "seed",
    }


def test_an_optimizer_without_steps_is_refused(lora_model):
    optimizer = torch.optim.AdamW(lora_parameters(lora_model).values())
    with pytest.raises(OptimizerStateError, match=r"no moments for base_model\..*q_proj\.lora_A\.weight"):
        moments_by_name(lora_model, optimizer)


def test_moments_that_lack_a_parameter_are_refused_by_name(stepped, tmp_path):
    write_checkpoint(tmp_path / "epoch=2", *stepped, STATE)
    path = tmp_path / "epoch=2" / "adam_moments.safetensors"
    moments = load_file(path)
    removed = sorted(moments)[0]
    save_file({name: tensor for name, tensor in moments.items() if name != removed}, path)
    with pytest.raises(AdapterMismatchError, match=removed):
        read_checkpoint(tmp_path / "epoch=2")


def test_epochs_are_listed_in_number_order_without_half_written_ones(stepped, tmp_path):
    for epoch in (10, 2, 1):
        write_checkpoint(epoch_folder(tmp_path, epoch), *stepped, replace(STATE, epoch=epoch))
    (tmp_path / "epoch=11.partial").mkdir()
    assert [folder.name for folder in checkpoints_in(tmp_path)] == ["epoch=1", "epoch=2", "epoch=10"]
