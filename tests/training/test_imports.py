import json
import shutil
from dataclasses import replace

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict
from transformers import Trainer

from lessexp.data.datamodule import InstructionDataModule
from lessexp.gradients.adam import adam_direction
from lessexp.gradients.per_example import per_example_gradients
from lessexp.models.lora import copy_into, lora_parameters, read_adapter
from lessexp.training.checkpoint import checkpoints_in, read_checkpoint
from lessexp.training.foreign_adapter import ForeignAdapterError
from lessexp.training.foreign_checkpoint import ForeignCheckpointError
from lessexp.training.foreign_optimizer import ForeignOptimizerError
from lessexp.training.imports import ImportedWarmup
from lessexp.training.module import InstructionTuning
from tests.conftest import LORA
from tests.training.conftest import SETTINGS


@pytest.fixture
def run(trainer_run, tmp_path):
    """A copy of the Trainer's folder, to be changed."""
    return shutil.copytree(trainer_run, tmp_path / "trainer")


def saved_by_torch(path):
    """What is in the file, in memory: these tests write over files, which must not be mapped then."""
    return torch.load(path, weights_only=True)


@pytest.fixture
def convert(fresh_model, tmp_path):
    """Import a folder; returns the checkpoints and what was said."""

    def run_it(root, *, learning_rates=None, into="imported"):
        imported, said = ImportedWarmup(path=str(root), learning_rates=learning_rates), []
        imported.check(LORA)
        assert imported.convert(fresh_model(), tmp_path / into, announce=said.append) == len(imported.checkpoints)
        return [read_checkpoint(folder) for folder in checkpoints_in(tmp_path / into)], said

    return run_it


def directions(model, checkpoint, batch):
    """Γ of the batch's first row, and the gradient it comes from, by parameter name."""
    copy_into(model, checkpoint.parameters)
    grads = {name: grad[:1] for name, grad in per_example_gradients(model.eval(), batch).items()}
    state = checkpoint.state
    return grads, {
        name: adam_direction(
            grad,
            checkpoint.exp_avg[name],
            checkpoint.exp_avg_sq[name],
            step=state.step + 1,
            betas=state.betas,
            eps=state.eps,
        )[0]
        for name, grad in grads.items()
    }


def assert_next_step_is_the_direction(model, optimizer, saved, adapter, checkpoint, batch):
    """The optimizer, loaded with the trainer's own state, moves every parameter by ``-lr`` times Γ."""
    grads, expected = directions(model, checkpoint, batch)
    assert all(torch.equal(checkpoint.parameters[name], tensor) for name, tensor in adapter.items())
    optimizer.load_state_dict(saved)
    for group in optimizer.param_groups:
        group["lr"] = 1.0
    parameters = lora_parameters(model)
    for name, parameter in parameters.items():
        parameter.grad = grads[name][0].detach().clone()
    optimizer.step()
    for name, parameter in parameters.items():
        # Entries of Γ are of order one, and the difference of two float32 weights rounds at 1e-7.
        torch.testing.assert_close(
            checkpoint.parameters[name] - parameter.detach(), expected[name], rtol=1e-4, atol=1e-6
        )


def test_gamma_is_the_step_that_the_trainers_own_optimizer_takes_next(run, convert, fresh_model, batch):
    checkpoints, said = convert(run)
    assert said == []
    assert [(one.state.epoch, one.state.step) for one in checkpoints] == [(1, 3), (2, 6)]
    for checkpoint in checkpoints:
        folder = run / f"checkpoint-{checkpoint.state.step}"
        model = fresh_model()
        trainer = Trainer(model=model)
        trainer.args.output_dir = str(run)
        assert_next_step_is_the_direction(
            model,
            trainer.create_optimizer(),
            saved_by_torch(folder / "optimizer.pt"),
            read_adapter(folder),
            checkpoint,
            batch,
        )


def test_learning_rates_are_the_means_of_the_steps_since_the_checkpoint_before(run, convert):
    checkpoints, _ = convert(run)
    # Two steps of rise from 0 to 8e-3, then four of fall: what step t = 1..6 used.
    rates = [0, 4e-3, 8e-3, 6e-3, 4e-3, 2e-3]
    expected = [sum(rates[:3]) / 3, sum(rates[3:]) / 3]
    assert [one.state.mean_learning_rate for one in checkpoints] == pytest.approx(expected)
    by_hand, said = convert(run, learning_rates=[2e-5, 1e-5], into="by hand")
    assert [one.state.mean_learning_rate for one in by_hand] == [2e-5, 1e-5]
    assert said == []


def test_rates_that_nobody_logged_come_from_the_optimizers_and_are_pointed_out(run, convert):
    for folder in run.glob("checkpoint-*"):
        (folder / "trainer_state.json").unlink()  # a folder as torch.save alone leaves it
    checkpoints, said = convert(run)
    assert [one.state.mean_learning_rate for one in checkpoints] == pytest.approx([6e-3, 4e-3])
    assert [one.state.step for one in checkpoints] == [3, 6]
    assert len(said) == 2
    assert "checkpoint-3: no learning rate is logged since the checkpoint before; 0.006 follows from" in said[0]
    shutil.rmtree(run / "checkpoint-3")
    with pytest.raises(ForeignCheckpointError, match=r"is 0, as far as it is known; give warmup\.learning_rates"):
        convert(run, into="none")


def as_fsdp1_names_it(model, saved):
    """A state by number as FSDP's first version would name it, in an order of its own."""
    names = [
        "_fsdp_wrapped_module." + name.replace(".self_attn", "._fsdp_wrapped_module.self_attn")
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]
    groups = [
        group | {"params": [names[number] for number in reversed(group["params"])]} for group in saved["param_groups"]
    ]
    return {"state": {names[number]: state for number, state in saved["state"].items()}, "param_groups": groups}


def as_fsdp2_saves_it(model, saved):
    """What the function that accelerate calls under FSDP's second version returns."""
    optimizer = Trainer(model=model).create_optimizer()
    optimizer.load_state_dict(saved)
    return get_optimizer_state_dict(model, optimizer, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


@pytest.mark.parametrize("by_name", [as_fsdp1_names_it, as_fsdp2_saves_it])
def test_states_by_name_as_fsdp_saves_them_give_the_same_checkpoint_as_by_number(run, convert, fresh_model, by_name):
    expected, _ = convert(run)
    for folder in run.glob("checkpoint-*"):
        torch.save(by_name(fresh_model(), saved_by_torch(folder / "optimizer.pt")), folder / "optimizer.bin")
        (folder / "optimizer.pt").unlink()
    for named, numbered in zip(convert(run, into="named")[0], expected, strict=True):
        assert named.state == numbered.state
        for name in numbered.parameters:
            assert torch.equal(named.exp_avg[name], numbered.exp_avg[name])
            assert torch.equal(named.exp_avg_sq[name], numbered.exp_avg_sq[name])
            assert torch.equal(named.parameters[name], numbered.parameters[name])


def test_gamma_is_the_step_that_lightnings_optimizer_takes_next(
    fresh_model, tokenized, tokenizer, convert, batch, tmp_path
):
    settings = replace(SETTINGS, epochs=2, schedule="constant")
    data = InstructionDataModule(
        tokenized, batch_size=4, micro_batch_size=4, pad_token_id=tokenizer.pad_token_id, seed=7
    )
    module = InstructionTuning(fresh_model().train(), settings, steps_per_epoch=3, log_prefix="warmup", seed=7)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(tmp_path / "lightning" / "epoch=0-step=3.ckpt")
    [checkpoint], said = convert(tmp_path / "lightning")
    assert (checkpoint.state.epoch, checkpoint.state.step) == (1, 3)
    assert checkpoint.state.mean_learning_rate == SETTINGS.learning_rate
    assert "lora.alpha is taken on trust" in said[1]
    saved = saved_by_torch(tmp_path / "lightning" / "epoch=0-step=3.ckpt")["optimizer_states"][0]
    adapter = {name: parameter.detach().clone() for name, parameter in lora_parameters(module.model).items()}
    model = fresh_model()
    optimizer = torch.optim.AdamW(lora_parameters(model).values(), weight_decay=0.0)
    assert_next_step_is_the_direction(model, optimizer, saved, adapter, checkpoint, batch)


def test_half_an_import_goes_on_with_what_is_there(run, convert, tmp_path):
    whole, _ = convert(run)
    kept = (tmp_path / "imported" / "epoch=1" / "adam_moments.safetensors").stat().st_mtime_ns
    shutil.rmtree(tmp_path / "imported" / "epoch=2")
    again, _ = convert(run)
    assert [one.state for one in again] == [one.state for one in whole]
    assert (tmp_path / "imported" / "epoch=1" / "adam_moments.safetensors").stat().st_mtime_ns == kept


def test_the_key_follows_the_files_that_are_read(run):
    fields = ImportedWarmup(path=str(run), learning_rates=None).identity
    assert fields == ImportedWarmup(path=str(run), learning_rates=None).identity
    assert fields != ImportedWarmup(path=str(run), learning_rates=[1.0, 2.0]).identity
    torch.save({}, run / "checkpoint-3" / "optimizer.pt")
    assert fields != ImportedWarmup(path=str(run), learning_rates=None).identity


@pytest.mark.parametrize(
    ("rates", "message"),
    [([1e-5], "has 1 values, .* 2 checkpoints"), ([1e-5, 0.0], "must be above 0, got 0.0")],
)
def test_learning_rates_by_hand_must_be_one_for_each_checkpoint(run, rates, message):
    with pytest.raises(ForeignCheckpointError, match=rf"warmup\.learning_rates {message}"):
        ImportedWarmup(path=str(run), learning_rates=rates).check(LORA)


def test_an_adapter_of_another_rank_is_refused_before_a_tensor_is_read(run):
    (run / "checkpoint-3" / "optimizer.pt").write_bytes(b"")
    with pytest.raises(ForeignAdapterError, match=r"r is 4, the run has lora\.rank=8"):
        ImportedWarmup(path=str(run), learning_rates=None).check(replace(LORA, rank=8))


def test_checkpoints_of_the_same_step_are_refused(run, convert):
    shutil.copytree(run / "checkpoint-6", run / "checkpoint-7")
    with pytest.raises(ForeignCheckpointError, match="checkpoint-6 and checkpoint-7 are both of step 6"):
        convert(run)


def test_moments_and_adapter_that_do_not_fit_the_model_are_refused_by_file_and_parameter(run, convert):
    saved = saved_by_torch(run / "checkpoint-3" / "optimizer.pt")
    saved["state"][0], saved["state"][1] = saved["state"][1], saved["state"][0]
    torch.save(saved, run / "checkpoint-3" / "optimizer.pt")
    with pytest.raises(ForeignOptimizerError, match=r"checkpoint-3/optimizer\.pt: exp_avg of .*q_proj\.lora_A"):
        convert(run)
    shutil.copy(run / "checkpoint-6" / "optimizer.pt", run / "checkpoint-3" / "optimizer.pt")
    (run / "checkpoint-3" / "adapter_model.safetensors").unlink()
    torch.save({"base_model.model.lora_A.weight": torch.zeros(1)}, run / "checkpoint-3" / "adapter_model.bin")
    with pytest.raises(ForeignCheckpointError, match="checkpoint-3: adapter: 16 parameters are missing, the first is"):
        convert(run)


def test_what_could_not_be_read_again_is_refused_and_no_checkpoint_is_left(run, convert, tmp_path):
    file = run / "checkpoint-3" / "adapter_model.safetensors"
    adapter = load_file(file)
    next(iter(adapter.values())).view(-1)[0] = float("nan")
    save_file(adapter, file)
    with pytest.raises(ForeignCheckpointError, match=r"checkpoint-3: adapter: .*lora_A.* holds NaN or infinite values"):
        convert(run)
    assert not list(tmp_path.rglob("epoch=*"))


def test_half_precision_is_imported_as_float32(run, convert):
    folder = run / "checkpoint-3"
    saved = saved_by_torch(folder / "optimizer.pt")
    for state in saved["state"].values():
        state |= {key: state[key].bfloat16() for key in ("exp_avg", "exp_avg_sq")}
    torch.save(saved, folder / "optimizer.pt")
    first = convert(run)[0][0]
    assert {tensor.dtype for tensor in (first.exp_avg | first.exp_avg_sq | first.parameters).values()} == {
        torch.float32
    }
    written = json.loads((folder / "trainer_state.json").read_text())
    assert written["global_step"] == first.state.step == 3
