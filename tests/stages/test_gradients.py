import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch

from lessexp.data.rows import write_rows
from lessexp.data.tokenize import collate
from lessexp.errors import DamagedFileError
from lessexp.gradients.adam import AdamDirection
from lessexp.gradients.datastore import GradientDatastore
from lessexp.gradients.per_example import GradientFeatures, per_example_gradients
from lessexp.gradients.projection import SparseSignProjector
from lessexp.gradients.spaces import equivalent, factor
from lessexp.models.lora import copy_into
from lessexp.stages import gradient_store, gradients, warmup
from lessexp.training.checkpoint import checkpoint_hash, checkpoints_in, read_checkpoint
from lessexp.wholeness import read_complete
from tests.conftest import make_rows
from tests.stages.conftest import read_json


@pytest.fixture
def built(make_experiment):
    """An experiment with its stores."""
    experiment = make_experiment("datastore.dtype=float32")
    warmup.run(experiment)
    gradients.run(experiment)
    return experiment


def test_stored_rows_are_each_examples_own_projected_direction(built):
    store = GradientDatastore.open(built.cfg.paths.pool_gradients)
    by_id = {row.example_id: row for row in built.tokenized_pool}
    assert sorted(store.ids) == sorted(by_id)
    projector = SparseSignProjector(proj_dim=512, seed=0, nonzeros=1)
    model = built.selection_model.load_with_adapter(seed=0)
    for epoch, folder in enumerate(checkpoints_in(warmup_root(built)), start=1):
        checkpoint = read_checkpoint(folder)
        copy_into(model, checkpoint.parameters)
        gamma = AdamDirection(checkpoint, eps_inside_sqrt=False, bias_correction=True)
        for position in (0, 11, 23):
            batch = collate([by_id[store.ids[position]]], pad_token_id=1)
            grads = per_example_gradients(model, batch)
            expected = projector.project({name: gamma(name, 0, grad.flatten(1)) for name, grad in grads.items()})
            found = store.rows(epoch, position, position + 1)
            # Alone or in a batch differ by rounding, which Adam's root magnifies where it is close to zero.
            assert torch.nn.functional.cosine_similarity(found, expected).item() > 1 - 1e-3
            assert found.norm().item() == pytest.approx(expected.norm().item(), rel=1e-2)


def warmup_root(experiment):
    return Path(experiment.cfg.paths.warmup)


def test_target_rows_are_plain_gradients_with_their_subtasks(make_experiment, tmp_path):
    # From long to short, for a store is in the order of length; four, whose subtasks read otherwise from the end.
    write_rows(tmp_path / "long first.jsonl", make_rows(4, prefix="target", target=True)[::-1])
    built = make_experiment("datastore.dtype=float32", f"target.path={tmp_path / 'long first.jsonl'}")
    warmup.run(built)
    gradients.run(built)
    store = GradientDatastore.open(built.cfg.paths.target_gradients)
    subtask_of = {row.example_id: row.subtask for row in built.target}
    assert dict(zip(store.ids, store.manifest.subtasks, strict=True)) == subtask_of
    assert store.ids == list(subtask_of)[::-1]
    rows = {row.example_id: row for row in built.tokenized_target[0]}
    projector = SparseSignProjector(proj_dim=512, seed=0, nonzeros=1)
    model = built.selection_model.load_with_adapter(seed=0)
    for epoch, folder in enumerate(checkpoints_in(warmup_root(built)), start=1):
        copy_into(model, read_checkpoint(folder).parameters)
        for place, name in enumerate(store.ids):
            expected = projector.project(per_example_gradients(model, collate([rows[name]], pad_token_id=1)))
            found = store.rows(epoch, place, place + 1)
            # In bfloat16 rounding differs between a row alone and one in a batch.
            assert torch.nn.functional.cosine_similarity(found, expected).item() > 1 - 1e-3
            assert found.norm().item() == pytest.approx(expected.norm().item(), rel=1e-2)


def test_a_half_built_store_is_finished_to_the_same_bytes(built, make_experiment):
    root = Path(built.cfg.paths.pool_gradients)
    whole = {path: path.read_bytes() for path in root.rglob("*") if path.name not in {"COMPLETE"} and path.is_file()}
    for lost in ("COMPLETE", "manifest.json", "checkpoint=2/shard-00001.safetensors"):
        (root / lost).unlink()
    gradients.run(make_experiment("datastore.dtype=float32", run="second"))
    assert {path: path.read_bytes() for path in whole} == whole


def test_other_batches_give_the_same_features(make_experiment, built):
    first = GradientDatastore.open(built.cfg.paths.pool_gradients).rows(1, 0, 24)
    for lost in Path(built.cfg.paths.pool_gradients).rglob("*"):
        if lost.is_file():
            lost.unlink()
    again = make_experiment("datastore.dtype=float32", "gradients.tokens_per_batch=64", run="second")
    gradients.run(again)
    second = GradientDatastore.open(again.cfg.paths.pool_gradients).rows(1, 0, 24)
    assert torch.nn.functional.cosine_similarity(first, second).min() > 1 - 1e-3  # rounding, as above


def store_files(root):
    """Bytes of all that a store consists of."""
    return {
        path.relative_to(root): path.read_bytes()
        for path in Path(root).rglob("*")
        if path.suffix in {".safetensors", ".json"} and path.name not in {"spent.json", "key.json"}
    }


def test_stores_filled_together_equal_those_filled_one_by_one_and_later_runs_reuse_them(make_experiment, monkeypatch):
    others = ["proj_dim=64"], ["datastore.dtype=int8"], ["projection=srht"]
    together = make_experiment("datastore.also=[{proj_dim:64},{dtype:int8}]")
    warmup.run(together)
    own = gradients.run(together)["artifacts"]["pool_gradients"].record
    assert own["flops"] > 0
    files = {}
    for index, overrides in enumerate(others):
        alone = make_experiment(*overrides, run=f"alone-{index}")
        found = Path(alone.cfg.paths.pool_gradients)
        assert found.exists() == (index < 2)
        if found.exists():
            assert read_complete(found)["record"] == own  # the pass that filled all is what each cost
            files[found] = store_files(found)
            shutil.rmtree(found)
        gradients.run(alone)
    for found, wanted in files.items():
        assert store_files(found) == wanted
    monkeypatch.setattr(
        gradient_store, "fill_stores", lambda *_, **__: pytest.fail("a finished store was filled again")
    )
    assert gradients.run(make_experiment("proj_dim=64", run="again"))["artifacts"]["pool_gradients"].reused


def test_new_rows_join_an_old_store_and_the_old_are_copied(make_experiment, built_warmup, tmp_path, monkeypatch):
    computed = []
    compute = GradientFeatures.compute

    def counting(self, batch):
        computed.extend(batch.example_ids)
        return compute(self, batch)

    monkeypatch.setattr(GradientFeatures, "compute", counting)
    given = f"warmup.path={built_warmup}"
    gradients.run(make_experiment(given, "datastore.dtype=int4"))
    computed.clear()

    write_rows(tmp_path / "more.jsonl", [*make_rows(24)[3:], *make_rows(30)[24:]])
    grown = make_experiment(given, "datastore.dtype=int4", f"data.paths=[{tmp_path / 'more.jsonl'}]", run="grown")
    gradients.run(grown)
    assert sorted(computed) == sorted(2 * [f"row-{i:03d}" for i in range(24, 30)])

    copied = GradientDatastore.open(grown.cfg.paths.pool_gradients)
    shutil.rmtree(tmp_path / "artifacts" / "pool_gradients")
    gradients.run(grown)
    anew = GradientDatastore.open(grown.cfg.paths.pool_gradients)
    assert copied.ids == anew.ids and len(anew.ids) == 27
    for epoch in (1, 2):
        cosines = torch.nn.functional.cosine_similarity(copied.rows(epoch, 0, 27), anew.rows(epoch, 0, 27))
        assert cosines.min() > 0.99  # other batches, then four bits


def test_the_stores_name_the_checkpoints_they_were_made_at(built):
    store = GradientDatastore.open(built.cfg.paths.pool_gradients)
    folders = checkpoints_in(warmup_root(built))
    assert store.manifest.checkpoint_hashes == {"1": checkpoint_hash(folders[0]), "2": checkpoint_hash(folders[1])}
    assert len(set(store.manifest.checkpoint_hashes.values())) == 2


def test_a_budget_taken_from_free_memory_is_kept_for_a_resumed_store(make_experiment, monkeypatch):
    monkeypatch.setattr(gradient_store, "tokens_that_fit", lambda *_, **__: 77)
    experiment = make_experiment("gradients.tokens_per_batch=auto")
    warmup.run(experiment)
    gradients.run(experiment)
    root = Path(experiment.cfg.paths.pool_gradients)
    assert read_json(root / "tokens_per_batch.json") == {"tokens_per_batch": 77}
    (root / "COMPLETE").unlink()
    monkeypatch.setattr(gradient_store, "tokens_that_fit", lambda *_, **__: pytest.fail("chosen again"))
    gradients.run(make_experiment("gradients.tokens_per_batch=auto", run="resumed"))


@pytest.mark.parametrize("record", ["", {}, [1], *({"tokens_per_batch": value} for value in (0, -5, "7", True))])
def test_a_damaged_budget_is_named(make_experiment, monkeypatch, record):
    monkeypatch.setattr("lessexp.stages.gradient_store.fill_stores", lambda *arguments, **options: 1 / 0)
    overrides = ["gradients.tokens_per_batch=auto", "warmup.fraction=0"]
    experiment = make_experiment(*overrides)
    warmup.run(experiment)
    with pytest.raises(ZeroDivisionError):
        gradients.run(experiment)
    (file,) = experiment.shelf.root.glob("target_gradients/*/tokens_per_batch.json")
    file.write_text(json.dumps(record))
    with pytest.raises(DamagedFileError, match=r"target_gradients/.*/tokens_per_batch\.json: "):
        gradients.run(make_experiment(*overrides))


def test_unprojected_gradients_are_an_option(make_experiment):
    experiment = make_experiment("projection=identity", "datastore.dtype=float32", "model.dtype=float32")
    warmup.run(experiment)
    gradients.run(experiment)
    store = GradientDatastore.open(experiment.cfg.paths.target_gradients)
    model = experiment.selection_model.load_with_adapter(seed=0)
    checkpoint = read_checkpoint(checkpoints_in(warmup_root(experiment))[0])
    copy_into(model, checkpoint.parameters)
    rows, _ = experiment.tokenize(experiment.target, experiment.selection_model)
    row = next(row for row in rows if row.example_id == store.ids[0])
    grads = per_example_gradients(model, collate([row], pad_token_id=1))
    expected = torch.cat([grads[name].flatten(1) for name in sorted(grads)], dim=1)
    torch.testing.assert_close(store.rows(1, 0, 1), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("space", ["equivalent", "factor"])
def test_a_proxys_own_gradients_are_an_option(make_experiment, space):
    settings = ["selector=iprox", "proxy=svd", "proxy.rank_multiple=4", "gradients=sgd", "datastore.dtype=float32"]
    experiment = make_experiment(*settings, f"space={space}", "model.dtype=float32")
    warmup.run(experiment)
    gradients.run(experiment)
    store = GradientDatastore.open(experiment.cfg.paths.target_gradients)
    model = experiment.selection_model.load_with_adapter(seed=0)
    copy_into(model, read_checkpoint(checkpoints_in(warmup_root(experiment))[0]).parameters)
    rows, _ = experiment.tokenize(experiment.target, experiment.selection_model)
    row = next(row for row in rows if row.example_id == store.ids[0])
    layers = {"factor": factor, "equivalent": partial(equivalent, layers=experiment.cfg.space.get("layers"))}[space]
    grads = per_example_gradients(model, collate([row], pad_token_id=1), layers=layers(model))
    expected = SparseSignProjector(proj_dim=512, seed=0, nonzeros=1).project(grads)
    torch.testing.assert_close(store.rows(1, 0, 1), expected, rtol=1e-3, atol=1e-5)  # alone and in a batch
