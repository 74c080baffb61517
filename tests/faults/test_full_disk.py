"""A disk that is full while something is written: one sentence, nothing half-written, and the run goes on with room."""

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import lessexp.gradients.datastore
import lessexp.stages.select
import lessexp.training.adam_moments
from tests.faults.program import SELECTION, contents, forbid_writing, selection, sentence_of


@dataclass
class SmallDisk:
    """A disk of a few megabytes, or a folder where none can be mounted."""

    folder: Path
    is_mounted: bool

    def fill(self) -> None:
        """Use up all room, or take this process the right to write."""
        if not self.is_mounted:
            forbid_writing()
            return
        with (self.folder / "filler").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    def make_room(self) -> None:
        (self.folder / "filler").unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    is_mounted = subprocess.run(mount, capture_output=True).returncode == 0
    yield SmallDisk(folder, is_mounted)
    if is_mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def full_at_call(number: int, owner: object, name: str, disk: SmallDisk) -> Callable[[], None]:
    """What fills the disk in a run's process just before the call so numbered of a function."""

    def patch() -> None:
        function, calls = getattr(owner, name), []

        def filling_first(*arguments, **options):
            calls.append(name)
            if len(calls) == number:
                disk.fill()
            return function(*arguments, **options)

        setattr(owner, name, filling_first)

    return patch


MOMENTS = {
    # The target's two shards come first.
    "shard": (5, lessexp.gradients.datastore.DatastoreWriter, "write_encoded", "artifacts_dir"),
    "checkpoint": (2, lessexp.training.adam_moments, "write_checkpoint", "artifacts_dir"),
    "scores": (1, lessexp.stages.select, "_write_table", "hydra.run.dir"),
}
WRITTEN = {"shard": r"shard-\d{5}.safetensors", "checkpoint": "epoch=2", "scores": "scores.parquet"}


@pytest.mark.parametrize("what", ["shard", pytest.param("checkpoint", marks=pytest.mark.slow), "scores"])
def test_a_full_disk_is_told_in_one_sentence_and_with_room_the_run_goes_on(place, undisturbed, disk, what):
    number, owner, name, key = MOMENTS[what]
    on_disk = (
        {"artifacts": disk.folder / "artifacts"} if key == "artifacts_dir" else {"run_folder": disk.folder / "run"}
    )
    stopped = place.run(SELECTION, before=full_at_call(number, owner, name, disk), **on_disk)
    assert stopped.exit_code == 1, stopped.printed
    sentence = sentence_of(stopped)
    assert re.search(rf"{disk.folder}\S*/{WRITTEN[what]}: ", sentence), sentence
    assert "make room" in sentence and key in sentence and "run again" in sentence
    assert not disk.is_mounted or "No space left" in sentence
    assert not [path for path in disk.folder.rglob("*") if path.suffix == ".partial" or path.name.startswith(".tmp")]

    disk.make_room()
    again = place.run(SELECTION, **on_disk)
    assert again.exit_code == 0, again.printed
    assert selection(on_disk.get("run_folder", place.run_folder)) == selection(undisturbed.run_folder)
    assert contents(on_disk.get("artifacts", place.artifacts)) == contents(undisturbed.artifacts)
