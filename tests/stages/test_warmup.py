import json
import shutil

import pyarrow.parquet
import pytest
import torch
from transformers import Trainer

from lessexp.models.causal_lm import load_causal_lm
from lessexp.models.lora import attach_lora, copy_into, lora_parameters, read_adapter
from lessexp.stages import gradients, select, warmup
from lessexp.training.checkpoint import MissingEpochError, TrainerState, checkpoints_in, epoch_folder, write_checkpoint
from tests.conftest import LORA
from tests.stages.conftest import read_json, train_alone


def test_it_trains_on_the_stated_share_and_leaves_one_checkpoint_an_epoch(make_experiment):
    experiment = make_experiment()
    record = warmup.run(experiment)
    artifact = record["artifacts"]["warmup"]
    folder = artifact.folder
    assert str(folder) == experiment.cfg.paths.warmup
    assert len(checkpoints_in(folder)) == experiment.cfg.warmup.training.epochs
    ids = read_json(folder / "example_ids.json")
    assert len(ids) == len(set(ids)) == 12
    assert artifact.record["flops"] > 0


def test_the_seed_draws_the_share_and_the_adapter(make_experiment):
    def trained(seed, run):
        folder = warmup.run(make_experiment(f"seed={seed}", run=run))["artifacts"]["warmup"].folder
        adapter = torch.cat([value.flatten() for value in read_adapter(checkpoints_in(folder)[-1]).values()])
        return read_json(folder / "example_ids.json"), adapter

    (ids, adapter), (other_ids, other_adapter) = trained(0, "first"), trained(1, "second")
    shutil.rmtree(make_experiment().shelf.root / "warmup")
    again_ids, again = trained(0, "again")
    assert ids == again_ids and torch.equal(adapter, again)
    assert set(ids) != set(other_ids)
    assert set(ids) != {f"row-{i:03d}" for i in range(12)}  # not simply the first ones
    assert not torch.allclose(adapter, other_adapter, atol=1e-2)


def test_the_adapter_is_trained_on_the_drawn_rows_alone(make_experiment, tmp_path):
    experiment = make_experiment("seed=1")
    folder = warmup.run(experiment)["artifacts"]["warmup"].folder
    by_id = {row.example_id: row for row in experiment.tokenized_pool}
    rows = [by_id[name] for name in read_json(folder / "example_ids.json")]
    model = train_alone(experiment, rows, experiment.cfg.warmup.training, tmp_path)
    found = read_adapter(checkpoints_in(folder)[-1])
    assert all(torch.equal(found[name], parameter) for name, parameter in lora_parameters(model).items())


def test_a_second_run_reuses_it_and_says_so(make_experiment, capsys):
    first = warmup.run(make_experiment())["artifacts"]["warmup"]
    second = warmup.run(make_experiment(run="second"))["artifacts"]["warmup"]
    assert not first.reused
    assert second.reused
    assert f"warmup: reusing {first.folder}" in capsys.readouterr().out.replace("\n", "")


@pytest.mark.parametrize("kept", [1, 2])
def test_a_warmup_that_lost_its_last_epochs_goes_on_to_the_same_end(make_experiment, kept):
    root = warmup.run(make_experiment("warmup.training.epochs=3"))["artifacts"]["warmup"].folder
    whole = {path: path.read_bytes() for path in root.rglob("*.safetensors")}
    (root / "COMPLETE").unlink()
    for folder in checkpoints_in(root)[kept:]:
        shutil.rmtree(folder)
    warmup.run(make_experiment("warmup.training.epochs=3", run="second"))
    assert {path: path.read_bytes() for path in root.rglob("*.safetensors")} == whole


def test_without_a_warmup_the_fresh_adapter_selects(make_experiment):
    experiment = make_experiment("warmup.fraction=0")
    artifact = warmup.run(experiment)["artifacts"]["warmup"]
    assert [folder.name for folder in checkpoints_in(artifact.folder)] == ["epoch=0"]
    fresh = lora_parameters(experiment.model.load_with_adapter(seed=0))
    found = read_adapter(artifact.folder / "epoch=0")
    assert all(torch.equal(found[name], parameter) for name, parameter in fresh.items())
    assert artifact.record["flops"] == 0
    gradients.run(experiment)
    assert select.run(experiment)["selection"]["n_selected"] == 6


OF_THE_TRAINER = ("warmup=import", "lora.rank=4", "lora.alpha=8")


def selected_scores(experiment):
    """Scores by id and subtask after the three stages that select."""
    for stage in (warmup, gradients, select):
        stage.run(experiment)
    return pyarrow.parquet.read_table(experiment.run_folder / "scores.parquet").to_pydict()


def test_imported_checkpoints_select_as_the_same_checkpoints_in_our_own_format(
    make_experiment, trainer_run, model_folder, tmp_path
):
    """Ours are written by `write_checkpoint` from an optimizer that has loaded the Trainer's own state."""
    for epoch, (step, rate) in enumerate({3: 4e-3, 6: 4e-3}.items(), start=1):
        model = attach_lora(load_causal_lm(model_folder, dtype="float32", device="cpu"), LORA, seed=0)
        copy_into(model, read_adapter(trainer_run / f"checkpoint-{step}"))
        optimizer = Trainer(model=model).create_optimizer()
        optimizer.load_state_dict(torch.load(trainer_run / f"checkpoint-{step}" / "optimizer.pt", weights_only=True))
        state = TrainerState(epoch, step, betas=(0.9, 0.999), eps=1e-8, mean_learning_rate=rate, seed=0)
        write_checkpoint(epoch_folder(tmp_path / "ours", epoch), model, optimizer, state)
    imported = make_experiment(*OF_THE_TRAINER, f"warmup.path={trainer_run}", run="imported")
    ours = make_experiment(*OF_THE_TRAINER[1:], f"warmup.path={tmp_path / 'ours'}", run="ours")
    scores = selected_scores(imported)
    assert scores == selected_scores(ours)
    assert len(set(scores["score"])) == len(scores["score"]) == 24


def test_an_import_is_an_artifact_that_a_second_run_reuses(make_experiment, trainer_run, capsys):
    given = (*OF_THE_TRAINER, f"warmup.path={trainer_run}")
    first = warmup.run(make_experiment(*given))["artifacts"]["warmup"]
    assert "2 checkpoints of" in capsys.readouterr().out
    assert first.record == {"n_checkpoints": 2, "flops": 0}
    assert (first.folder / "COMPLETE").exists()
    second = warmup.run(make_experiment(*given, run="second"))["artifacts"]["warmup"]
    assert (second.reused, second.folder) == (True, first.folder)
    other_rates = make_experiment(*given, "warmup.learning_rates=[2e-5,1e-5]", run="other rates")
    assert other_rates.cfg.paths.warmup != str(first.folder)


def test_a_finished_warmup_that_lacks_an_epoch_is_refused(make_experiment):
    folder = warmup.run(make_experiment())["artifacts"]["warmup"].folder
    complete = read_json(folder / "COMPLETE")
    for epoch in (1, 2):  # as an object store may have it: what vouches for the others does not name it
        left = {name: sha256 for name, sha256 in complete["sha256"].items() if f"epoch={epoch}/" not in name}
        (folder / "COMPLETE").write_text(json.dumps(complete | {"sha256": left}))
        (folder / f"epoch={epoch}").rename(folder.parent / "aside")
        with pytest.raises(MissingEpochError, match=f"epoch={epoch}: missing, though the training"):
            warmup.run(make_experiment())
        (folder.parent / "aside").rename(folder / f"epoch={epoch}")
