import shutil

import pytest
import torch
from peft import PeftModel

from lessexp.data.rows import write_rows
from lessexp.data.tokenize import tokenize_rows
from lessexp.models.causal_lm import load_causal_lm
from lessexp.models.lora import lora_parameters, read_adapter
from lessexp.stages import finetune, training
from lessexp.training import adam_moments
from lessexp.training.checkpoint import write_checkpoint
from lessexp.training.fit import fit
from tests.conftest import make_rows
from tests.stages.conftest import train_alone


def test_it_trains_a_fresh_copy_on_the_selected_rows_alone(make_experiment, model_folder, tmp_path):
    experiment = make_experiment("selector=random", "seed=1", "finetune.training.epochs=3")
    selected = make_rows(24)[:6]
    write_rows(experiment.run_folder / "selected.jsonl", selected)
    record = finetune.run(experiment)
    rows, _ = tokenize_rows(
        selected, tokenizer=experiment.model.tokenizer, chat_format=experiment.model.chat_format, max_length=200
    )
    by_hand = train_alone(experiment, rows, experiment.cfg.finetune.training, tmp_path)
    base = load_causal_lm(model_folder, dtype="bfloat16", device="cpu")
    tuned = lora_parameters(PeftModel.from_pretrained(base, experiment.run_folder / "adapter"))
    assert all(torch.equal(tuned[name], parameter) for name, parameter in lora_parameters(by_hand).items())
    of_training = record["artifacts"]["tuned_adapter"].record
    assert record["n_rows"] == of_training["n_rows"] == 6
    assert of_training["n_steps"] == 6  # four rows a step, three times


def tune(make_experiment, *overrides, run, rows):
    """Record of the stage and bytes of the adapter in the run folder."""
    experiment = make_experiment("selector=random", *overrides, run=run)
    write_rows(experiment.run_folder / "selected.jsonl", rows)
    record = finetune.run(experiment)
    return record["artifacts"]["tuned_adapter"], read_adapter(experiment.run_folder / "adapter")


def test_runs_that_train_on_the_same_rows_share_the_adapter_whatever_they_aim_at(make_experiment):
    rows = make_rows(24)[:6]
    first, adapter = tune(make_experiment, run="first", rows=rows)
    assert not first.reused and first.record["flops"] > 0
    second, same = tune(make_experiment, "aggregate=mean", run="second", rows=rows)
    assert second.reused
    assert all(torch.equal(same[name], adapter[name]) for name in adapter)
    assert [path.name for path in first.folder.iterdir() if path.is_dir()] == ["adapter"]  # no epoch is left


THREE_EPOCHS = ["finetune.training.epochs=3"]  # the first step has a rate of 0, and in the second A stays as it is


@pytest.mark.parametrize(
    "override", ["seed=1", "finetune.training.learning_rate=0.001", "lora.rank=4", "max_length=43"]
)
def test_another_training_is_another_adapter(make_experiment, override):
    rows = make_rows(24)[:6]
    _, adapter = tune(make_experiment, *THREE_EPOCHS, run="first", rows=rows)
    again, other = tune(make_experiment, *THREE_EPOCHS, override, run="second", rows=rows)
    assert not again.reused
    assert not any(torch.equal(other[name], value) for name, value in adapter.items())


@pytest.mark.parametrize("others", [make_rows(24)[:6][::-1], make_rows(24)[1:7]], ids=["order", "rows"])
def test_other_rows_or_another_order_are_another_adapter(make_experiment, others):
    _, adapter = tune(make_experiment, *THREE_EPOCHS, run="first", rows=make_rows(24)[:6])
    again, other = tune(make_experiment, *THREE_EPOCHS, run="second", rows=others)
    assert not again.reused
    assert not any(torch.equal(other[name], value) for name, value in adapter.items())


def test_a_training_stopped_after_an_epoch_goes_on_there(make_experiment, monkeypatch):
    rows = make_rows(24)[:6]
    _, whole = tune(make_experiment, *THREE_EPOCHS, run="first", rows=rows)
    shutil.rmtree(make_experiment(run="first").shelf.root / "tuned_adapter")

    def full_disk(*args, **kwargs):
        if len(written) == 2:
            raise OSError("no space")
        written.append(write_checkpoint(*args, **kwargs))

    written, resumed_from = [], []
    monkeypatch.setattr(adam_moments, "write_checkpoint", full_disk)
    with pytest.raises(OSError, match="no space"):
        tune(make_experiment, *THREE_EPOCHS, run="second", rows=rows)
    monkeypatch.setattr(adam_moments, "write_checkpoint", write_checkpoint)
    [kept] = make_experiment(run="second").shelf.root.glob("tuned_adapter/*/epochs/*")
    assert kept.name == "epoch=2"  # the earlier one is gone

    def noted_fit(*args, **kwargs):
        resumed_from.append(kwargs["resume_from"].state.epoch)
        fit(*args, **kwargs)

    monkeypatch.setattr(training, "fit", noted_fit)
    _, again = tune(make_experiment, *THREE_EPOCHS, run="third", rows=rows)
    assert resumed_from == [2]
    assert all(torch.equal(again[name], whole[name]) for name in whole)
