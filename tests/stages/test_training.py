import shutil
from dataclasses import replace

import torch

from lessexp.training.checkpoint import checkpoints_in, read_checkpoint


def trained(experiment, folder):
    """Adapter by name and record of the warm-up's settings on the whole pool."""
    training = replace(experiment.warmup.training, rows=experiment.tokenized_pool)
    record = training.train_epochs(folder, log_prefix="warmup", keeps_all_checkpoints=True, runtime=experiment.runtime)
    return read_checkpoint(checkpoints_in(folder)[-1]).parameters, record


def test_a_training_goes_on_after_the_last_epoch_that_is_there(make_experiment, tmp_path):
    experiment = make_experiment("warmup.training.epochs=3")
    whole, record = trained(experiment, tmp_path / "epochs")
    assert [folder.name for folder in checkpoints_in(tmp_path / "epochs")] == ["epoch=1", "epoch=2", "epoch=3"]
    shutil.rmtree(tmp_path / "epochs" / "epoch=3")
    again, record_again = trained(experiment, tmp_path / "epochs")
    assert record_again == record
    assert (record["n_rows"], record["n_steps"]) == (24, 18) and record["flops"] > 0  # four rows a step, three times
    assert all(torch.equal(again[name], whole[name]) for name in whole)


def test_a_training_that_lacks_an_earlier_epoch_starts_from_the_gap(make_experiment, tmp_path):
    experiment = make_experiment("warmup.training.epochs=3")
    trained(experiment, tmp_path / "epochs")
    whole = [read_checkpoint(folder).parameters for folder in checkpoints_in(tmp_path / "epochs")]
    shutil.rmtree(tmp_path / "epochs" / "epoch=2")
    kept = (tmp_path / "epochs" / "epoch=1" / "trainer_state.json").stat().st_mtime_ns
    trained(experiment, tmp_path / "epochs")
    again = [read_checkpoint(folder).parameters for folder in checkpoints_in(tmp_path / "epochs")]
    for one, other in zip(whole, again, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert (tmp_path / "epochs" / "epoch=1" / "trainer_state.json").stat().st_mtime_ns == kept


def test_what_is_trained_already_is_read_and_not_trained_again(make_experiment, tmp_path, monkeypatch):
    experiment = make_experiment()
    whole, _ = trained(experiment, tmp_path / "epochs")
    monkeypatch.setattr("lessexp.stages.training.fit", lambda *args, **kwargs: 1 / 0)
    again, _ = trained(experiment, tmp_path / "epochs")
    assert all(torch.equal(again[name], whole[name]) for name in whole)
