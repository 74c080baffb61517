"""What a run computes if an earlier run, given by its warm-up, has computed some of it already; on the tiny model."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lessexp.data.rows import write_rows
from lessexp.files import read_json, write_json
from lessexp.pipeline import run
from tests.conftest import make_rows
from tests.stages.conftest import compose_config  # noqa: F401  (a fixture)
from tests.test_sweeps import SELECTION, counted  # noqa: F401  (a fixture)

N_CHECKPOINTS = 2


@pytest.fixture
def first(compose_config, counted, tmp_path):  # noqa: F811
    """The warm-up of an ordinary run over 24 pool rows and 5 target rows."""
    return Path(select(compose_config(SELECTION), tmp_path / "first").cfg.paths.warmup)


def select(cfg, folder):
    folder.mkdir()
    return run(cfg, folder)


@pytest.fixture
def computed(first, compose_config, counted, tmp_path):  # noqa: F811
    """How many examples go backward in a run over these rows that is given the first run's warm-up."""

    def count(*overrides, pool=None, warmup=first):
        write_rows(tmp_path / "grown.jsonl", pool or make_rows(24))
        counted["examples"], number = 0, len(list(tmp_path.glob("run-*")))
        given = [SELECTION, f"data.paths=[{tmp_path / 'grown.jsonl'}]", f"warmup.path={warmup}", *overrides]
        select(compose_config(*given), tmp_path / f"run-{number}")
        return counted["examples"]

    return count


def test_only_new_rows_are_computed_after_an_ordinary_run(computed, first, tmp_path):
    assert computed(pool=make_rows(30)) == N_CHECKPOINTS * 6
    assert len(list((tmp_path / "artifacts" / "pool_gradients").glob("*/COMPLETE"))) == 2


def test_the_same_rows_are_all_copied(computed):
    assert computed() == 0


def renamed(rows):
    return [replace(row, example_id=f"renamed-{row.example_id}") for row in rows]


@pytest.mark.parametrize(
    ("overrides", "pool", "n_rows"),
    [
        (["warmup.checkpoints=[2]"], make_rows(24), 0),
        (["pool_sample.n_rows=10"], make_rows(24), 0),
        (["datastore.rows_per_shard=5"], make_rows(30)[20:], 6),
        ([], [*renamed(make_rows(24)[3:]), *make_rows(26)[24:]], 2),
        (["proj_dim=64"], make_rows(24), 24 + 5),
        (["datastore.dtype=int8"], make_rows(24), 24 + 5),
        (["datastore.also=[{dtype:int8}]"], make_rows(24), 24 + 5),
        (["lora.alpha=64"], make_rows(24), 24 + 5),
        (["gradients=sign"], make_rows(24), 24),
        (["seed=1"], make_rows(24), 24 + 5),  # it draws the projection
        (["warmup.fraction=0.1", "warmup.training.batch_size=99", "fraction=1"], make_rows(24), 0),
    ],
)
def test_only_what_no_store_holds_is_computed(computed, overrides, pool, n_rows):
    n_checkpoints = 1 if "warmup.checkpoints=[2]" in overrides else N_CHECKPOINTS
    assert computed(*overrides, pool=pool) == n_checkpoints * n_rows


def test_only_new_target_rows_are_computed(computed, tmp_path):
    write_rows(tmp_path / "more.jsonl", make_rows(7, prefix="target", target=True))
    assert computed(f"target.path={tmp_path / 'more.jsonl'}") == N_CHECKPOINTS * 2


@pytest.mark.parametrize("written", ["relative", "home", "copied", "with a slash"])
def test_the_place_of_the_warmup_does_not_matter(computed, first, tmp_path, monkeypatch, written):
    monkeypatch.chdir(first.parent)
    monkeypatch.setenv("HOME", str(first.parent))
    place = {"relative": first.name, "home": f"'~/{first.name}'", "with a slash": f"{first}/"}.get(written)
    assert computed(warmup=place or shutil.copytree(first, tmp_path / "copy")) == 0


def test_a_checkpoint_of_other_content_is_no_source_of_copies(computed, first, tmp_path):
    changed = shutil.copytree(first, tmp_path / "changed", ignore=shutil.ignore_patterns("COMPLETE"))
    state = changed / "epoch=2" / "trainer_state.json"
    write_json(state, read_json(state) | {"eps": 1e-4})
    assert computed(warmup=changed) == N_CHECKPOINTS * (24 + 5)


def test_the_copied_rows_select_and_train_as_the_computed_ones(computed, first, compose_config, tmp_path):  # noqa: F811
    assert computed("selector.stages=[warmup,gradients,select,finetune]") == 0
    for name in ("selected.jsonl", "scores.parquet"):
        assert (tmp_path / "run-0" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()
    assert list((tmp_path / "run-0" / "adapter").glob("*.safetensors"))
