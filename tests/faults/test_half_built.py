"""A run killed half-way, then damage to what it left: named before it is used, and no more than that is built anew."""

import os
import shutil
import signal
import time

import pytest

from lessexp.gradients.datastore import DatastoreWriter
from lessexp.training import checkpoint
from lessexp.wholeness import main
from tests.faults.program import SELECTION, contents, flip_a_byte, selection, sentence_of


def killed_after(owner, name, n):
    """What is to be done before a run that is to be killed once ``owner.name`` was called ``n`` times."""

    def before():
        original, calls = getattr(owner, name), []

        def counted(*arguments, **options):
            original(*arguments, **options)
            calls.append(1)
            if len(calls) == n:
                os.kill(os.getpid(), signal.SIGKILL)

        setattr(owner, name, counted)

    return before


slow = pytest.mark.slow
AFTER_SEVEN_SHARDS = killed_after(DatastoreWriter, "write_encoded", 2 + 5)  # two of the target, five of the pool
AFTER_AN_EPOCH = killed_after(checkpoint, "save_checkpoint", 1)


@pytest.fixture
def half_built(place):
    """The folder of a pool's store that lacks three of its eight shards."""
    killed = place.run(SELECTION, before=AFTER_SEVEN_SHARDS)
    assert killed.exit_code == -signal.SIGKILL, killed.printed
    (folder,) = (place.artifacts / "pool_gradients").glob("*/")
    assert len(place.shards()) == 5 and not (folder / "COMPLETE").exists()
    return folder


def shard(folder, checkpoint, number):
    return folder / f"checkpoint={checkpoint}" / f"shard-{number:05d}.safetensors"


def swap(folder, _):
    one, other, between = shard(folder, 1, 0), shard(folder, 1, 1), folder / "between"
    one.rename(between)
    other.rename(one)
    between.rename(other)


def from_another_store(folder, place):
    other = place.run(SELECTION, "seed=1", artifacts=place.folder / "other", run_folder=place.folder / "other run")
    assert other.exit_code == 0, other.printed
    shutil.copy(place.shards(artifacts=place.folder / "other")[0], shard(folder, 1, 0))


DAMAGE = {
    "flipped": (lambda folder, _: flip_a_byte(shard(folder, 1, 1)), ["1/1"]),
    "cut": (lambda folder, _: os.truncate(shard(folder, 1, 1), 50), ["1/1"]),
    "swapped": (swap, ["1/0", "1/1"]),
    "copied": (lambda folder, _: shutil.copy(shard(folder, 1, 2), shard(folder, 1, 1)), ["1/1"]),
    "of the other checkpoint": (lambda folder, _: shutil.copy(shard(folder, 1, 0), shard(folder, 2, 0)), ["2/0"]),
    "of another store": (from_another_store, ["1/0"]),
}


@pytest.mark.parametrize("kind", ["swapped", *(pytest.param(one, marks=slow) for one in DAMAGE if one != "swapped")])
def test_a_damaged_shard_is_named_and_computed_anew_after_a_repair(place, undisturbed, half_built, kind, capsys):
    damage, places = DAMAGE[kind]
    damage(half_built, place)
    names = [f"checkpoint={one[0]}/shard-0000{one[2]}.safetensors" for one in places]
    stopped = place.run(SELECTION)
    assert stopped.exit_code == 1, stopped.printed
    assert f"{half_built}: damaged or missing: {', '.join(names)}; " in sentence_of(stopped)
    assert f"python -m lessexp.wholeness repair {half_built}" in sentence_of(stopped)
    assert main(["repair", str(half_built)]) == 0
    assert f"deleted {', '.join(names)};" in capsys.readouterr().out
    kept = {path: path.stat().st_mtime_ns for path in place.shards()}
    assert len(kept) == 5 - len(names)
    again = place.run(SELECTION)
    assert again.exit_code == 0, again.printed
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert selection(place.run_folder) == selection(undisturbed.run_folder)
    assert contents(place.artifacts) == contents(undisturbed.artifacts)


def test_a_store_keeps_its_rows_per_shard_whatever_a_later_run_is_told(place, undisturbed, half_built):
    (half_built / "spent.json").write_text("")  # a note that says nothing of the time stops nothing
    (half_built / "checkpoint=1" / "folder").mkdir()  # nor does what is no shard
    shutil.rmtree(place.run_folder)  # which was another run's
    again = place.run(SELECTION, "datastore.rows_per_shard=5")
    assert again.exit_code == 0, again.printed
    assert contents(place.artifacts) == contents(undisturbed.artifacts)
    assert selection(place.run_folder) == selection(undisturbed.run_folder)


def test_a_damaged_epoch_is_named_and_trained_anew_after_a_repair(place, undisturbed):
    killed = place.run(SELECTION, before=AFTER_AN_EPOCH)
    assert killed.exit_code == -signal.SIGKILL, killed.printed
    (epoch,) = (place.artifacts / "warmup").glob("*/epoch=1")
    flip_a_byte(epoch / "adapter_model.safetensors")
    stopped = place.run(SELECTION)
    assert f"{epoch.parent}: damaged or missing: epoch=1; " in sentence_of(stopped)
    assert main(["repair", str(epoch.parent)]) == 0
    again = place.run(SELECTION)
    assert again.exit_code == 0, again.printed
    assert contents(place.artifacts) == contents(undisturbed.artifacts)


@slow
def test_a_warmup_without_its_first_epoch_is_trained_again(place, undisturbed):
    shutil.copytree(undisturbed.artifacts / "warmup", place.artifacts / "warmup")
    (folder,) = (place.artifacts / "warmup").glob("*/")
    (folder / "COMPLETE").unlink()
    shutil.rmtree(folder / "epoch=1")
    again = place.run(SELECTION)
    assert again.exit_code == 0, again.printed
    assert "epoch=2: deleted, for an earlier epoch is missing" in again.printed.replace("\n", "")
    assert contents(place.artifacts) == contents(undisturbed.artifacts)


@slow
def test_two_runs_whose_lock_was_deleted_both_end_right(place, undisturbed):
    def slowly():
        write = DatastoreWriter.write_encoded

        def write_slowly(*arguments):
            write(*arguments)
            time.sleep(0.3)

        DatastoreWriter.write_encoded = write_slowly

    first = place.start(SELECTION, before=slowly)
    while len(place.shards()) < 2:
        assert not first.has_ended(), first.printed
    for lock in place.artifacts.glob("pool_gradients/*.lock"):
        lock.unlink()
    second = place.run(SELECTION, run_folder=place.folder / "second", before=slowly)
    assert first.wait() == second.exit_code == 0, first.printed + second.printed
    for folder in (place.run_folder, place.folder / "second"):
        assert selection(folder) == selection(undisturbed.run_folder)


@pytest.mark.parametrize("kind", ["folder", pytest.param("link", marks=slow)])
def test_something_else_in_the_place_of_a_lock_is_named(place, half_built, kind):
    lock = half_built.with_name(half_built.name + ".lock")
    lock.unlink()
    if kind == "folder":
        lock.mkdir()
    else:
        lock.symlink_to(place.folder / "elsewhere")
    stopped = place.run(SELECTION)
    assert f"Error: {lock}: a lock must be a file, this is a folder or a link; delete it" in sentence_of(stopped)
    assert not (place.folder / "elsewhere").exists()


def test_damaged_neighbours_stop_nothing(place, undisturbed):
    shutil.copytree(undisturbed.artifacts, place.artifacts)
    for number, text in enumerate(["{}", "", '{"seconds": "9", "record": [], "sha256": {}}']):
        for kind in ("pool_gradients", "warmup"):
            folder = place.artifacts / kind / f"neighbour-{number}"
            folder.mkdir()
            (folder / "COMPLETE").write_text(text)
    again = place.run(SELECTION, "fraction=0.5")
    assert again.exit_code == 0, again.printed
