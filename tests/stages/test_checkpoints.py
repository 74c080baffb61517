from pathlib import Path

import pyarrow.parquet
import pytest

from lessexp.gradients.datastore import GradientDatastore
from lessexp.gradients.per_example import GradientFeatures
from lessexp.identity import key_of
from lessexp.stages import gradients, select, warmup
from lessexp.stages.checkpoints import checkpoint_folders
from lessexp.training.checkpoint import epoch_folder, read_trainer_state
from lessexp.wholeness import read_complete


def scores_by_checkpoint(experiment):
    for stage in (warmup, gradients, select):
        stage.run(experiment)
    return pyarrow.parquet.read_table(experiment.run_folder / "scores_by_checkpoint.parquet").to_pydict()


def test_a_choice_of_checkpoints_scores_by_them_alone_with_weights_that_sum_to_one(make_experiment, monkeypatch):
    three = "warmup.training.epochs=3"
    all_of_them = make_experiment(three, "datastore.dtype=float32", run="all")
    whole = scores_by_checkpoint(all_of_them)
    assert whole["checkpoint"] == [1] * 24 + [2] * 24 + [3] * 24
    # What the choice needs is copied from the store that holds it already.
    monkeypatch.setattr(GradientFeatures, "compute", lambda *_: pytest.fail("computed again"))
    two = make_experiment(three, "datastore.dtype=float32", "warmup.checkpoints=[2,1]", run="two")
    part = scores_by_checkpoint(two)
    assert part["checkpoint"] == [1] * 24 + [2] * 24
    assert part["example_id"] == whole["example_id"][:48]
    folder = all_of_them.shelf.folder(all_of_them.warmup)
    records = [read_complete(Path(made.cfg.paths.pool_gradients)) for made in (all_of_them, two)]
    # A choice costs its share of the whole, whatever was there.
    assert records[1]["record"]["flops"] == 0
    assert records[1]["record"]["copied"]["flops"] == pytest.approx(records[0]["record"]["flops"] * 2 / 3)
    assert records[1]["record"]["copied"]["seconds"] == pytest.approx(records[0]["seconds"] * 2 / 3)
    rates = [read_trainer_state(epoch_folder(folder, epoch)).mean_learning_rate for epoch in (1, 2, 3)]
    grown = sum(rates) / sum(rates[:2])
    assert part["sums"] == pytest.approx([score * grown for score in whole["sums"][:48]], rel=1e-5)
    assert two.cfg.paths.warmup == all_of_them.cfg.paths.warmup
    assert GradientDatastore.open(two.cfg.paths.pool_gradients).checkpoints == [1, 2]


def test_the_choice_is_part_of_what_determines_gradients_and_no_choice_is_not(make_experiment, built_warmup):
    given = f"warmup.path={built_warmup}"
    everything, second = make_experiment(given), make_experiment(given, "warmup.checkpoints=[2]")
    assert key_of(everything.warmup) == key_of(second.warmup)
    assert [made.pool_gradients[0].epochs for made in (everything, second)] == [None, (2,)]
    assert list(checkpoint_folders(everything.cfg)) == [1, 2]
    assert checkpoint_folders(second.cfg) == {2: built_warmup / "epoch=2"}
