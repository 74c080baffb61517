import pytest
import torch

from lessexp.data.tokenize import collate
from lessexp.gradients.adam import AdamDirection
from lessexp.gradients.datastore import GradientDatastore
from lessexp.gradients.per_example import per_example_gradients
from lessexp.gradients.projection import SparseSignProjector
from lessexp.models.lora import copy_into
from lessexp.stages import gradients, warmup
from lessexp.training.checkpoint import checkpoints_in, read_checkpoint


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
        copy_into(model, checkpoint.adapter)
        gamma = AdamDirection(checkpoint, eps_inside_sqrt=False, bias_correction=True)
        for position in (0, 11, 23):
            batch = collate([by_id[store.ids[position]]], pad_token_id=1)
            grads = per_example_gradients(model, batch)
            expected = projector.project({name: gamma(name, 0, grad.flatten(1)) for name, grad in grads.items()})
            found = store.rows(epoch, position, position + 1)
            # Alone or in a batch differ by rounding, which Adam's root magnifies where it is close to zero.
            assert torch.nn.functional.cosine_similarity(found, expected).item() > 1 - 1e-3


def warmup_root(experiment):
    from pathlib import Path

    return Path(experiment.cfg.paths.warmup)


def test_target_rows_are_plain_gradients_with_their_subtasks(built):
    store = GradientDatastore.open(built.cfg.paths.target_gradients)
    assert sorted(store.ids) == [f"target-{i:03d}" for i in range(5)]
    assert sorted(store.manifest.subtasks) == ["sums", "sums", "sums", "words", "words"]
    assert "PlainGradient" in store.manifest.provenance["direction"]["_target_"]


def test_a_half_built_store_is_finished_to_the_same_bytes(built, make_experiment):
    from pathlib import Path

    root = Path(built.cfg.paths.pool_gradients)
    whole = {path: path.read_bytes() for path in root.rglob("*") if path.name not in {"COMPLETE"} and path.is_file()}
    for lost in ("COMPLETE", "manifest.json", "checkpoint=2/shard-00001.safetensors"):
        (root / lost).unlink()
    gradients.run(make_experiment("datastore.dtype=float32", run="second"))
    assert {path: path.read_bytes() for path in whole} == whole


def test_other_batches_give_the_same_features(make_experiment, built):
    from pathlib import Path

    first = GradientDatastore.open(built.cfg.paths.pool_gradients).rows(1, 0, 24)
    for lost in Path(built.cfg.paths.pool_gradients).rglob("*"):
        if lost.is_file():
            lost.unlink()
    again = make_experiment("datastore.dtype=float32", "gradients.tokens_per_batch=64", run="second")
    gradients.run(again)
    second = GradientDatastore.open(again.cfg.paths.pool_gradients).rows(1, 0, 24)
    assert torch.nn.functional.cosine_similarity(first, second).min() > 1 - 1e-3  # rounding, as above
