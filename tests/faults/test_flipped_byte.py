"""A flipped byte: found before it is used, named, and no more than what is damaged is built anew."""

import shutil

import pytest

from lessexp.wholeness import main
from tests.faults.program import SELECTION, contents, flip_a_byte, selection, sentence_of

slow = pytest.mark.slow
FILES = [
    "pool_gradients/*/checkpoint=2/shard-00001.safetensors",
    pytest.param("pool_gradients/*/manifest.json", marks=slow),
    pytest.param("target_gradients/*/checkpoint=1/shard-00000.safetensors", marks=slow),
    pytest.param("warmup/*/epoch=1/adapter_model.safetensors", marks=slow),
    "warmup/*/epoch=2/adam_moments.safetensors",
]


@pytest.mark.parametrize("pattern", FILES)
def test_it_is_named_before_it_is_used_and_after_a_repair_all_bytes_are_as_before(place, undisturbed, pattern):
    shutil.copytree(undisturbed.artifacts, place.artifacts)
    (damaged,) = place.artifacts.glob(pattern)
    flip_a_byte(damaged)
    kept = {path: path.stat().st_mtime_ns for path in place.shards() if path != damaged}

    stopped = place.run(SELECTION)
    assert stopped.exit_code == 1, stopped.printed
    kind, key, *_ = pattern.split("/")
    folder = next(place.artifacts.glob(f"{kind}/{key}/COMPLETE")).parent
    sentence = sentence_of(stopped)
    assert f"{folder}: damaged or missing: {damaged.relative_to(folder)}; " in sentence
    assert f"python -m lessexp.wholeness repair {folder}" in sentence
    assert not (place.run_folder / "selected.jsonl").exists()

    assert main(["repair", str(folder)]) == 0
    again = place.run(SELECTION)
    assert again.exit_code == 0, again.printed
    assert contents(place.artifacts) == contents(undisturbed.artifacts)
    assert selection(place.run_folder) == selection(undisturbed.run_folder)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert again.printed.count("reusing") == 2  # of warm-up, target and pool, the two that are whole


@slow
@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adam_moments.safetensors"])
def test_a_damaged_warmup_that_is_given_by_its_path_is_refused(place, undisturbed, name):
    shutil.copytree(undisturbed.artifacts / "warmup", place.folder / "given")
    (folder,) = (place.folder / "given").glob("*/")
    flip_a_byte(folder / "epoch=1" / name)
    stopped = place.run(SELECTION, f"warmup.path={folder}")
    assert f"damaged or missing: epoch=1/{name};" in sentence_of(stopped)


@slow
def test_a_damaged_store_gives_no_rows_to_a_larger_one_which_computes_them(place, undisturbed):
    (given,) = (undisturbed.artifacts / "warmup").glob("*/")
    first = place.run(SELECTION, f"warmup.path={given}")
    assert first.exit_code == 0, first.printed
    flip_a_byte(place.shards()[0])
    pool = place.folder / "pool.jsonl"
    pool.write_text("".join(pool.read_text().splitlines(keepends=True)[3:]))
    larger = place.run(SELECTION, f"warmup.path={given}", run_folder=place.folder / "larger")
    assert larger.exit_code == 0, larger.printed
    said = " ".join(larger.printed.split())
    assert "no rows are copied from a damaged store:" in said and "checkpoint=1/shard-00000.safetensors;" in said
    fresh = place.run(
        SELECTION, f"warmup.path={given}", run_folder=place.folder / "fresh", artifacts=place.folder / "fresh artifacts"
    )
    assert fresh.exit_code == 0, fresh.printed
    assert selection(place.folder / "larger") == selection(place.folder / "fresh")
