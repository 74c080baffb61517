import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from lessexp.errors import DamagedFileError, MissingFileError, UserError
from lessexp.models.lora import AdapterMismatchError, copy_into, lora_parameters
from lessexp.training.checkpoint import (
    DivergedError,
    MissingEpochError,
    OptimizerStateError,
    TrainerState,
    checkpoint_hash,
    checkpoints_in,
    contiguous,
    epoch_folder,
    moments_by_name,
    read_checkpoint,
    read_trainer_state,
    require_epochs,
    write_checkpoint,
)
from tests.hostile import changed, damaged, json_values, lying_safetensors

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
        assert torch.equal(checkpoint.parameters[name], parameter)
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
        "sha256.json",
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
        moments_by_name(lora_parameters(lora_model), optimizer)


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


FILES = ("adapter_model.safetensors", "adam_moments.safetensors")


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
def test_any_bytes_in_the_place_of_tensors_are_read_or_refused_by_name(stepped, tmp_path, name, data):
    folder = tmp_path / "epoch=2"
    if not folder.exists():
        write_checkpoint(folder, *stepped, STATE)
    kept = (folder / name).read_bytes()
    names = sorted(load_file(folder / name))[:2]
    (folder / name).write_bytes(data.draw(st.one_of(damaged(kept), lying_safetensors(names))))
    try:
        copy_into(stepped[0], read_checkpoint(folder).parameters)
    except (DamagedFileError, AdapterMismatchError):
        pass
    finally:
        (folder / name).write_bytes(kept)
    assert read_checkpoint(folder).state == STATE


@given(st.one_of(changed(json.loads(json.dumps(vars(STATE)))), json_values))
def test_any_json_in_the_place_of_the_state_is_a_state_or_is_refused_by_name(tmp_path, record):
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps(record))
    try:
        state = read_trainer_state(tmp_path)
    except UserError as error:
        assert str(error).startswith(str(path))
    else:
        assert state.mean_learning_rate >= 0
        assert len(state.betas) == 2


def test_whole_numbers_serve_as_rates(tmp_path):
    record = {**vars(STATE), "betas": [0, 0], "eps": 0, "mean_learning_rate": 1}
    (tmp_path / "trainer_state.json").write_text(json.dumps(record))
    assert read_trainer_state(tmp_path) == replace(STATE, betas=(0.0, 0.0), eps=0.0, mean_learning_rate=1.0)


@pytest.mark.parametrize("name", ["eps", "mean_learning_rate"])
def test_a_rate_that_no_float_holds_is_refused_by_name(tmp_path, name):
    (tmp_path / "trainer_state.json").write_text(json.dumps({**vars(STATE), name: 10**400}))
    with pytest.raises(DamagedFileError, match=f"'{name}' cannot be 1000"):
        read_trainer_state(tmp_path)


def test_moments_of_another_shape_are_refused_by_name(stepped, tmp_path):
    write_checkpoint(tmp_path / "epoch=2", *stepped, STATE)
    path = tmp_path / "epoch=2" / "adam_moments.safetensors"
    moments = load_file(path)
    name = sorted(moments)[0]
    save_file(moments | {name: torch.zeros(3)}, path)
    with pytest.raises(AdapterMismatchError, match=rf"adam_moments\.safetensors: {name} is .*\(3,\)"):
        read_checkpoint(tmp_path / "epoch=2")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_of_a_checkpoint_is_named(stepped, tmp_path, name):
    write_checkpoint(tmp_path / "epoch=2", *stepped, STATE)
    (tmp_path / "epoch=2" / name).unlink()
    for read in (read_checkpoint, checkpoint_hash):
        with pytest.raises(MissingFileError, match=rf"{name}: no such file"):
            read(tmp_path / "epoch=2")


def test_the_hash_is_of_all_that_determines_the_direction_and_nothing_else(stepped, tmp_path):
    def hash_of(state):
        write_checkpoint(tmp_path / "epoch=2", *stepped, state)
        return checkpoint_hash(tmp_path / "epoch=2")

    same = [STATE, replace(STATE, seed=1), replace(STATE, mean_learning_rate=0.5)]
    others = [replace(STATE, step=7), replace(STATE, eps=1e-7), replace(STATE, betas=(0.9, 0.99))]
    assert len({hash_of(state) for state in same}) == 1
    assert len({hash_of(state) for state in [STATE, *others]}) == 4


@pytest.mark.parametrize(
    ("kind", "value", "fault"),
    [
        ("exp_avg", float("nan"), "NaN or infinite values"),
        ("exp_avg_sq", float("inf"), "NaN or infinite values"),
        ("exp_avg_sq", -1e-9, "negative values"),
    ],
)
def test_moments_that_no_training_leaves_are_refused_by_name(stepped, tmp_path, kind, value, fault):
    write_checkpoint(tmp_path / "epoch=2", *stepped, STATE)
    path = tmp_path / "epoch=2" / "adam_moments.safetensors"
    moments = load_file(path)
    name = next(name for name in moments if name.endswith(f".{kind}"))
    moments[name].view(-1)[0] = value
    save_file(moments, path)
    with pytest.raises(DivergedError, match=rf"adam_moments\.safetensors: {name} holds {fault}"):
        read_checkpoint(tmp_path / "epoch=2")


def test_epochs_count_up_to_the_first_gap(tmp_path):
    for epoch in (1, 2, 4, 10):
        epoch_folder(tmp_path, epoch).mkdir()
    assert contiguous(checkpoints_in(tmp_path)) == [tmp_path / "epoch=1", tmp_path / "epoch=2"]
    require_epochs(tmp_path, 2)
    with pytest.raises(MissingEpochError, match="epoch=3: missing, though the training is marked as complete; delete"):
        require_epochs(tmp_path, 4)
    epoch_folder(tmp_path, 1).rmdir()
    assert contiguous(checkpoints_in(tmp_path)) == []
