import json
import multiprocessing
import os
import resource
import signal
import time
from pathlib import Path

import pytest
import torch

from lessexp.artifacts import library_versions
from lessexp.data.tokenize import TokenizedRow
from lessexp.gradients.datastore import DatastoreWriter, GradientDatastore
from lessexp.gradients.filling import Donor, StoreInProgress, checked, donors_of, fill_stores, needs_computing
from lessexp.gradients.manifest import DatastoreError, Manifest
from lessexp.gradients.memory import Batches
from tests.teams import run_team

ROWS = [TokenizedRow(f"row-{i:02d}", [i, i + 1], [i, i + 1]) for i in range(20)]


class TableOfFeatures(Batches):
    """Stands for the model: row i's features at checkpoint c are drawn from (i, c), after a moment of work."""

    def __init__(self, seconds_a_row=0.0):
        self.seconds_a_row = seconds_a_row
        self.computed = []

    def compute(self, features, rows, *, advance):
        time.sleep(self.seconds_a_row * len(rows))
        self.computed += [(features, row.example_id) for row in rows]
        advance(len(rows))
        return torch.stack([value_of(row, features) for row in rows])


def value_of(row, checkpoint):
    return torch.randn(24, generator=torch.Generator().manual_seed(100 * checkpoint + row.input_ids[0]))


def writer(root, rows, dtype="float16", proj_dim=16, **changes):
    manifest = dict(
        example_ids=[row.example_id for row in rows],
        checkpoints=[1, 2],
        proj_dim=proj_dim,
        dtype=dtype,
        rows_per_shard=3,
        provenance={"seed": 0},
        row_hashes=[row.content_hash for row in rows],
    )
    return DatastoreWriter(root, Manifest(**(manifest | changes)))


def fill(root, rows=ROWS, donors=(), batches=None, advance=lambda n: None):
    """Two stores of 16 and 8 numbers a row, from one pass."""
    stores = [
        StoreInProgress(writer(root / "wide", rows), [Donor(donor) for donor in donors[:1]]),
        StoreInProgress(writer(root / "narrow", rows, "int8", 8), [Donor(donor) for donor in donors[1:]]),
    ]
    return fill_stores(
        stores,
        rows,
        lambda checkpoint: checkpoint,
        split=lambda features: features.split([16, 8], dim=1),
        batches=batches or TableOfFeatures(),
        advance=advance,
    )


def files(root):
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_each_store_gets_its_own_part_of_every_row(tmp_path):
    done = []
    wide, narrow = fill(tmp_path, advance=done.append)
    assert sum(done) == 2 * len(ROWS)
    for checkpoint in (1, 2):
        wanted = torch.stack([value_of(row, checkpoint) for row in ROWS])
        torch.testing.assert_close(wide.rows(checkpoint, 0, 20), wanted[:, :16], rtol=1e-3, atol=2e-3)  # 11 bits
        torch.testing.assert_close(narrow.rows(checkpoint, 0, 20), wanted[:, 16:], rtol=0, atol=0.02)  # 8 bits


def test_only_shards_missing_in_some_store_are_computed(tmp_path):
    fill(tmp_path)
    for name in ("wide/manifest.json", "narrow/manifest.json", "narrow/checkpoint=2/shard-00004.safetensors"):
        (tmp_path / name).unlink()
    table, done = TableOfFeatures(), []
    fill(tmp_path, batches=table, advance=done.append)
    assert table.computed == [(2, f"row-{i}") for i in (12, 13, 14)]
    assert sum(done) == 2 * len(ROWS)


def test_rows_are_copied_bit_by_bit_and_only_new_ones_computed(tmp_path):
    donors = fill(tmp_path / "old", ROWS[:13])
    renamed = [TokenizedRow(f"renamed-{row.example_id}", row.input_ids, row.labels) for row in reversed(ROWS[5:])]
    table = TableOfFeatures()
    grown = fill(tmp_path / "grown", renamed, donors=donors, batches=table)
    assert {name for _, name in table.computed} == {f"renamed-row-{i}" for i in range(13, 20)}
    anew = fill(tmp_path / "anew", renamed)
    for one, other in zip(grown, anew, strict=True):
        assert one.manifest.sha256 == other.manifest.sha256


def test_a_donor_differs_in_its_rows_alone(tmp_path):
    def finished(name, *, complete=True, hashes=None, versions=None, **fields):
        identity = {"seed": 0, "rows": name, "warmup": "trained"} | fields
        made = writer(tmp_path / name, ROWS[:2], rows_per_shard=2, checkpoint_hashes=hashes or {"1": "a"})
        fill_stores(
            [StoreInProgress(made)], ROWS[:2], lambda c: c, split=lambda f: [f[:, :16]],
            batches=TableOfFeatures(), advance=lambda n: None,
        )  # fmt: skip
        (tmp_path / name / "key.json").write_text(json.dumps({"identity": identity}))
        record = {"seconds": 0, "record": {}, "sha256": {}, "versions": versions or library_versions()}
        if complete:
            (tmp_path / name / "COMPLETE").write_text(json.dumps(record))

    finished("other rows")
    finished("half built", complete=False)
    finished("other seed", seed=1)
    finished("other checkpoints", hashes={"1": "b"})
    finished("other libraries", versions={"torch": "0.1"})
    finished("given checkpoints", warmup={"1": "a"})

    said = []

    def names_of_donors(name):
        identity = {"seed": 0, "rows": name, "warmup": "trained"}
        found = donors_of(tmp_path / name, identity, {"1": "a"}, free=("rows", "warmup"), announce=said.append)
        return [donor.store.root.name for donor in checked(found, announce=said.append)]

    assert names_of_donors("wanted") == ["given checkpoints", "other rows"]
    assert names_of_donors("other rows") == ["given checkpoints"], "a store is no donor of its own"
    assert said == []
    (tmp_path / "other seed" / "key.json").write_text("{")
    assert names_of_donors("other rows") == ["given checkpoints"]
    (sentence,) = said
    assert sentence.startswith("no rows are copied from a damaged store: ")
    assert "other seed/key.json: not valid JSON" in sentence
    lost = {"checkpoint=1/shard-00000.safetensors": "0"}
    record = {"seconds": 0, "record": {}, "sha256": lost, "versions": library_versions()}
    (tmp_path / "given checkpoints" / "COMPLETE").write_text(json.dumps(record))
    assert names_of_donors("other rows") == []
    assert "given checkpoints: damaged or missing: checkpoint=1/shard-00000.safetensors;" in said[-1]


def test_a_row_is_computed_if_any_store_has_no_donor_for_it(tmp_path):
    old = Donor(fill(tmp_path / "old", ROWS[:3])[0])
    with_donor = StoreInProgress(writer(tmp_path / "new", ROWS), [old])
    without = StoreInProgress(writer(tmp_path / "other", ROWS))
    assert [needs_computing(ROWS[i].content_hash, [with_donor]) for i in (0, 5)] == [False, True]
    assert needs_computing(ROWS[0].content_hash, [with_donor, without])
    assert not needs_computing(ROWS[5].content_hash, [])


def test_a_failed_write_stops_the_pass(tmp_path, monkeypatch):
    def refuse(*_):
        raise DatastoreError("no room")

    monkeypatch.setattr(DatastoreWriter, "write_encoded", refuse)
    table = TableOfFeatures()
    with pytest.raises(DatastoreError, match="no room"):
        fill(tmp_path, batches=table)
    assert len(table.computed) <= 4 * 3, "it went on computing what could not be kept"


def in_another_process(task, *arguments):
    process = multiprocessing.get_context("fork").Process(target=task, args=arguments)
    process.start()
    return process


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_store_killed_at_any_moment_is_finished_to_the_same_bytes(tmp_path):
    fill(tmp_path / "whole")
    kills = 0
    for attempt in range(100):
        process = in_another_process(fill, tmp_path / "killed", ROWS, (), TableOfFeatures(0.004))
        process.join(0.03 + 0.02 * attempt)
        if process.exitcode is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1
    assert process.exitcode == 0 and kills >= 3
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def fill_with_files_up_to(n_bytes: int, root: Path):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
    try:
        fill(root)
    except DatastoreError as error:
        os._exit(42 if "cannot be written" in str(error) and "run again" in str(error) else 1)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_write_that_fails_is_named_and_leaves_nothing_half_written(tmp_path):
    fill(tmp_path / "whole")
    root = tmp_path / "full"
    shard = tmp_path / "whole" / "wide" / "checkpoint=1" / "shard-00000.safetensors"
    for name in ("wide", "narrow"):  # the plans are longer than a shard, so they are there before
        writer(root / name, ROWS, *(("float16", 16) if name == "wide" else ("int8", 8)))
    process = in_another_process(fill_with_files_up_to, shard.stat().st_size - 1, root)
    process.join()
    assert process.exitcode == 42
    assert not list(root.rglob("wide/**/shard*")) and not list(root.rglob("shard*.partial"))
    fill(root)
    assert files(root) == files(tmp_path / "whole")
    assert not GradientDatastore.open(root / "wide").damaged_files()


def fill_as(team, root, dies_after=None):
    table = TableOfFeatures(0.002)
    if team.rank == 1 and dies_after is not None:
        compute = table.compute

        def compute_or_die(features, rows, *, advance):
            if len(table.computed) >= dies_after:
                time.sleep(0.5)  # until what was computed is written
                os.kill(os.getpid(), signal.SIGKILL)
            return compute(features, rows, advance=advance)

        table.compute = compute_or_die
    with team.leader_first():
        stores = [StoreInProgress(writer(root / "wide", ROWS))]
    fill_stores(
        stores, ROWS, lambda c: c, split=lambda f: [f[:, :16]], batches=table, advance=lambda n: None, team=team
    )
    (root / f"computed-{team.rank}.json").write_text(json.dumps(table.computed))


def computed_by_all(root):
    return [tuple(row) for file in root.glob("computed-*.json") for row in json.loads(file.read_text())]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("size", [2, 3])
def test_processes_share_the_shards_and_write_what_one_writes(tmp_path, size):
    fill(tmp_path / "one")
    assert run_team(size, fill_as, tmp_path) == [0] * size
    assert files(tmp_path / "wide") == files(tmp_path / "one" / "wide")
    found = computed_by_all(tmp_path)
    assert sorted(found) == [(c, row.example_id) for c in (1, 2) for row in ROWS], "each row once"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_what_a_killed_process_left_is_dealt_to_those_of_the_next_run(tmp_path):
    fill(tmp_path / "one")
    assert run_team(2, fill_as, tmp_path, 6)[1] == -signal.SIGKILL
    there = {path.relative_to(tmp_path) for path in (tmp_path / "wide").rglob("shard-*.safetensors")}
    assert 0 < len(there) < 14
    assert run_team(3, fill_as, tmp_path) == [0] * 3
    assert files(tmp_path / "wide") == files(tmp_path / "one" / "wide")
    assert 3 * (14 - len(there)) >= len(computed_by_all(tmp_path)) > 0, "whole shards were computed again"
