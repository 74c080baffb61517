import pytest

from lessexp.data.rows import write_records, write_rows
from lessexp.identity import key_of
from lessexp.stages.gradient_store import build_stores
from tests.conftest import make_rows


def test_a_store_is_built_from_its_fields_alone(make_experiment):
    experiment = make_experiment()
    for artifact in (experiment.warmup, *experiment.pool_gradients):
        assert not experiment.runtime.get(artifact).reused
    with pytest.raises(AttributeError, match="'cfg'"):
        experiment.pool_gradients[0].cfg  # noqa: B018  (no field of it leads to the configuration)


def test_the_order_of_the_pools_file_is_no_part_of_a_store(make_experiment, built_warmup, tmp_path):
    write_rows(tmp_path / "turned.jsonl", make_rows(24)[::-1])
    given = f"warmup.path={built_warmup}"
    first, turned = make_experiment(given), make_experiment(given, f"data.paths=[{tmp_path / 'turned.jsonl'}]")
    assert key_of(first.pool_gradients[0]) == key_of(turned.pool_gradients[0])


def test_another_subtask_of_a_target_row_is_another_store(make_experiment, built_warmup, tmp_path):
    given = f"warmup.path={built_warmup}"
    rows = [row.to_json() | {"subtask": "other"} for row in make_rows(5, prefix="target", target=True)]
    write_records(tmp_path / "other.jsonl", rows)
    first, other = make_experiment(given), make_experiment(given, f"target.path={tmp_path / 'other.jsonl'}")
    assert key_of(first.target_gradients[0]) != key_of(other.target_gradients[0])
    assert key_of(first.pool_gradients[0]) == key_of(other.pool_gradients[0])


def test_stores_of_one_pass_load_the_model_once(make_experiment, built_warmup, tmp_path):
    experiment = make_experiment(f"warmup.path={built_warmup}", "datastore.also=[{proj_dim:64}]")
    stores, loaded = experiment.pool_gradients, []

    def load():
        if not loaded:
            loaded.append(stores[0].load(experiment.runtime))
        return loaded[0]

    folders = [tmp_path / "artifacts" / "pool_gradients" / name for name in ("one", "two")]
    records = build_stores(list(zip(stores, folders, strict=True)), load, experiment.runtime)
    assert len(loaded) == 1 and [record["n_rows"] for record in records] == [24, 24]
