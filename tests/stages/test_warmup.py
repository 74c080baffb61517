import pytest

from lessexp.stages import warmup
from lessexp.training.checkpoint import checkpoints_in
from tests.stages.conftest import read_json


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


def test_the_seed_draws_the_share(make_experiment):
    def ids(seed):
        experiment = make_experiment(f"seed={seed}")
        rows = warmup.warmup_rows(experiment.tokenized_pool, n=12, seed=seed)
        return [row.example_id for row in rows]

    assert ids(0) == ids(0)
    assert set(ids(0)) != set(ids(1))
    assert set(ids(0)) != {f"row-{i:03d}" for i in range(12)}  # not simply the first ones


def test_a_second_run_reuses_it_and_says_so(make_experiment, capsys):
    first = warmup.run(make_experiment())["artifacts"]["warmup"]
    second = warmup.run(make_experiment(run="second"))["artifacts"]["warmup"]
    assert not first.reused
    assert second.reused
    assert f"warmup: reusing {first.folder}" in capsys.readouterr().out.replace("\n", "")


@pytest.mark.parametrize("kept", [1, 2])
def test_a_warmup_that_lost_its_last_epochs_goes_on_to_the_same_end(make_experiment, kept):
    import shutil

    root = warmup.run(make_experiment("warmup.training.epochs=3"))["artifacts"]["warmup"].folder
    whole = {path: path.read_bytes() for path in root.rglob("*.safetensors")}
    (root / "COMPLETE").unlink()
    for folder in checkpoints_in(root)[kept:]:
        shutil.rmtree(folder)
    warmup.run(make_experiment("warmup.training.epochs=3", run="second"))
    assert {path: path.read_bytes() for path in root.rglob("*.safetensors")} == whole
