from dataclasses import replace

import pytest
import torch

from lessexp.gradients.datastore import GradientDatastore, NoDirectionError
from lessexp.influence import score, score_targets
from lessexp.influence.similarity import cosine_of_mean, mean_of_gradients, subtasks_of, weights_by_length

SUBTASKS = ["b", "a", "b", "b", "c"]  # unequal sizes, not sorted
WEIGHTS = [3e-5, 1e-5]


def values(n, seed, n_checkpoints=2, width=8):
    return torch.randn(n_checkpoints, n, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def stores(make_store):
    return make_store("pool", values(10, 1)), make_store("target", values(5, 2), subtasks=SUBTASKS)


def triple_loop(pool, target, subtasks, weights):
    """score(x, s) of the paper, one number at a time in float64."""
    names = list(dict.fromkeys(subtasks))
    found = torch.zeros(pool.shape[0], pool.shape[1], len(names), dtype=torch.float64)
    for i in range(pool.shape[0]):
        for x in range(pool.shape[1]):
            for s, name in enumerate(names):
                cosines = []
                for z, subtask in enumerate(subtasks):
                    if subtask == name:
                        u, v = target[i, z].double(), pool[i, x].double()
                        cosines.append(float(u @ v) / (float(u @ u) ** 0.5 * float(v @ v) ** 0.5))
                found[i, x, s] = weights[i] / sum(weights) * sum(cosines) / len(cosines)
    return found


def test_scores_equal_a_triple_loop_in_float64(stores):
    pool, target = stores
    found = score(pool, target, WEIGHTS)
    expected = triple_loop(values(10, 1), values(5, 2), SUBTASKS, WEIGHTS)
    assert subtasks_of(target) == ["b", "a", "c"]
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)  # float32 against float64


def test_scores_from_float16_stores_are_within_their_rounding(make_store):
    pool = make_store("pool", values(10, 1), dtype="float16")
    target = make_store("target", values(5, 2), subtasks=SUBTASKS, dtype="float16")
    expected = triple_loop(values(10, 1), values(5, 2), SUBTASKS, WEIGHTS)
    # Rounding of 2**-12 a value, averaged over 8 of them.
    torch.testing.assert_close(score(pool, target, WEIGHTS).double(), expected, rtol=0, atol=1e-3)


def test_many_targets_share_one_look_at_the_pool(make_store, stores, monkeypatch):
    pool, target = stores
    other = make_store("other", values(3, 9), subtasks=["x", "y", "x"])
    alone = [score(pool, one, WEIGHTS) for one in (target, other)]
    looks = []
    blocks = GradientDatastore.cosine_blocks
    monkeypatch.setattr(GradientDatastore, "cosine_blocks", lambda *args: looks.append(args) or blocks(*args))
    together = score_targets(pool, [target, other], WEIGHTS)
    assert len(looks) == len(WEIGHTS)
    for found, wanted in zip(together, alone, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)  # a wider product may sum in another order


def test_stores_made_at_different_checkpoints_are_not_compared(make_store, stores):
    pool, target = stores
    target = GradientDatastore(target.root, replace(target.manifest, checkpoint_hashes={"1": "a", "2": "b"}))
    with pytest.raises(ValueError, match="different checkpoints of the same settings"):
        score(pool, target, WEIGHTS)


def test_neither_length_of_a_gradient_matters(make_store, stores):
    pool, target = stores
    scales = torch.logspace(-3, 3, 10)[:, None]
    longer = make_store("longer", values(10, 1) * scales)
    longer_target = make_store("longer_target", values(5, 2) * scales[:5], subtasks=SUBTASKS)
    torch.testing.assert_close(score(longer, longer_target, WEIGHTS), score(pool, target, WEIGHTS))


def test_cosine_of_the_mean_is_the_named_alternative(stores):
    pool, target = stores
    found = score(pool, target, WEIGHTS, subtask_vector=cosine_of_mean)
    grads, rows = values(5, 2).double(), values(10, 1).double()
    mean = grads[1][[0, 2, 3]].mean(0)  # subtask b at the second checkpoint
    expected = 0.25 * torch.nn.functional.cosine_similarity(rows[1], mean[None])
    torch.testing.assert_close(found[1, :, 0].double(), expected, rtol=0, atol=1e-6)
    assert not torch.allclose(found, score(pool, target, WEIGHTS))


def test_products_in_place_of_cosines_are_a_named_alternative(make_store):
    scales = torch.logspace(-3, 3, 10)[:, None]
    pool = make_store("pool", values(10, 1) * scales, dtype="float16")
    target = make_store("target", values(5, 2) * scales[:5], subtasks=SUBTASKS)
    found = score(pool, target, WEIGHTS, subtask_vector=mean_of_gradients, row_weights=weights_by_length)
    rows, grads = (values(10, 1) * scales).double(), (values(5, 2) * scales[:5]).double()
    of_b = [0.75 * sum(float(rows[0, x] @ grads[0, z]) for z in (0, 2, 3)) / 3 for x in range(10)]
    torch.testing.assert_close(found[0, :, 0].double(), torch.tensor(of_b).double(), rtol=0.01, atol=0)  # of float16


def test_only_the_ratio_of_the_weights_matters(stores):
    torch.testing.assert_close(score(*stores, WEIGHTS), score(*stores, [w * 1e4 for w in WEIGHTS]))


def test_pool_rows_without_a_direction_are_nan_and_the_rest_is_not(make_store):
    rows = values(10, 1)
    rows[0, 4] = 0
    pool = make_store("pool", rows)
    found = score(pool, make_store("target", values(5, 2), subtasks=SUBTASKS), WEIGHTS)
    assert found[0, 4].isnan().all()
    others = [row for row in range(10) if row != 4]
    assert found[:, others].isfinite().all()


def test_a_target_row_without_a_direction_is_an_error_that_names_it(make_store):
    rows = values(5, 2)
    rows[1, 3] = float("nan")
    with pytest.raises(NoDirectionError, match="'target-3'"):
        score(make_store("pool", values(10, 1)), make_store("target", rows, subtasks=SUBTASKS), WEIGHTS)


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, 1.0, 1.0]])
def test_weights_that_do_not_fit_the_checkpoints_are_refused(stores, weights):
    with pytest.raises(ValueError, match="2 checkpoints need as many weights"):
        score(*stores, weights)


@pytest.mark.parametrize("key", ["model", "lora", "warmup", "space", "projection"])
def test_stores_of_different_settings_are_not_compared(stores, key):
    pool, target = (
        GradientDatastore(store.root, replace(store.manifest, provenance=store.manifest.provenance | {key: value}))
        for store, value in zip(stores, ("abc", "xyz"), strict=True)
    )
    with pytest.raises(ValueError, match=f"'{key}' is abc in the pool's store, xyz in the target's"):
        score(pool, target, WEIGHTS)


def test_a_pool_cannot_stand_for_a_target(make_store):
    with pytest.raises(ValueError, match="holds no subtasks"):
        score(make_store("pool", values(10, 1)), make_store("other", values(5, 2)), WEIGHTS)
