import json
import multiprocessing

import pytest
from filelock import FileLock

from lessexp.artifacts import build_once
from lessexp.pieces import seal_folder
from lessexp.wholeness import DamageError, check_whole, damaged_files, hashes_in, main, read_complete, repair

FILES = ("epoch=1/adapter", "epoch=1/moments", "epoch=2/adapter", "epoch=2/moments", "example_ids.json", "a/shard-0")


def write_missing(folder):
    """Builds what is not there, an epoch at once, as the stages do; returns what it built."""
    built = []
    for name in FILES:
        file = folder / name
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            file.write_text(f"content of {name}")
            built.append(name)
    for epoch in folder.glob("epoch=*"):
        seal_folder(epoch, epoch.name)
    return {"built": built}


def build(folder):
    return build_once(folder, {"seed": 0}, write_missing, announce=lambda sentence: None)


def flip_a_byte(path, at=-1):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def contents(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


def test_every_file_is_hashed_but_the_one_that_holds_the_hashes(tmp_path):
    folder = build(tmp_path / "key").folder
    written = {*FILES, "key.json", "epoch=1/sha256.json", "epoch=2/sha256.json"}
    assert set(read_complete(folder)["sha256"]) == written == set(hashes_in(folder))
    check_whole(folder)


@pytest.mark.parametrize("name", [*FILES, "key.json"])
def test_a_flipped_byte_in_any_file_is_named_and_the_artifact_is_not_reused(tmp_path, name):
    folder = build(tmp_path / "key").folder
    flip_a_byte(folder / name)
    assert damaged_files(folder) == [name]
    with pytest.raises(DamageError, match=rf"damaged or missing: {name}; 'python -m lessexp.wholeness repair"):
        build(folder)


def test_a_lost_file_is_named(tmp_path):
    folder = build(tmp_path / "key").folder
    (folder / "a/shard-0").unlink()
    with pytest.raises(DamageError, match="damaged or missing: a/shard-0;"):
        check_whole(folder)


def test_a_half_built_artifact_has_nothing_to_be_compared_with(tmp_path):
    (tmp_path / "half").write_text("done so far")
    check_whole(tmp_path)


@pytest.mark.parametrize(
    ("damaged", "rebuilt"),
    [
        ("a/shard-0", ["a/shard-0"]),
        ("example_ids.json", ["example_ids.json"]),
        ("key.json", []),
        ("epoch=2/moments", ["epoch=2/adapter", "epoch=2/moments"]),
        ("epoch=1/adapter", ["epoch=1/adapter", "epoch=1/moments", "epoch=2/adapter", "epoch=2/moments"]),
    ],
)
def test_after_a_repair_only_what_was_damaged_is_built_anew(tmp_path, damaged, rebuilt):
    folder = build(tmp_path / "key").folder
    whole = contents(folder)
    flip_a_byte(folder / damaged)
    repair(folder)
    artifact = build(folder)
    assert artifact.record == {"built": rebuilt}
    assert contents(folder) == whole
    assert build(folder).reused


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"record": {}}', '{"seconds": 0, "record": {}}', "\x00"])
def test_a_record_that_cannot_be_read_is_named_and_deleted_by_a_repair(tmp_path, text):
    folder = build(tmp_path / "key").folder
    (folder / "COMPLETE").write_text(text)
    with pytest.raises(DamageError, match="damaged or missing: COMPLETE;"):
        build(folder)
    assert repair(folder) == ["COMPLETE"]
    assert build(folder).record == {"built": []}


def test_what_is_whole_is_left_alone(tmp_path, capsys):
    folder = build(tmp_path / "key").folder
    assert repair(folder) == []
    assert main(["repair", str(folder)]) == main(["verify", str(folder)]) == 0
    assert "nothing is deleted" in capsys.readouterr().out
    assert build(folder).reused


def test_the_command_names_what_is_damaged_and_deletes_it_when_told_to(tmp_path, capsys):
    folder = build(tmp_path / "key").folder
    flip_a_byte(folder / "a/shard-0")
    assert "damaged or missing: a/shard-0" in main(["verify", str(folder)])
    assert (folder / "a/shard-0").exists()
    assert main(["repair", str(folder)]) == 0
    assert "deleted a/shard-0, COMPLETE" in capsys.readouterr().out
    assert not (folder / "COMPLETE").exists()
    assert main(["verify", str(folder)]) == 0
    assert "no such folder" in main(["verify", str(tmp_path / "other")])


def hold(path, held, done):
    with FileLock(path):
        held.set()
        done.wait()


def test_an_artifact_that_a_run_is_using_is_not_repaired(tmp_path):
    folder = build(tmp_path / "key").folder
    flip_a_byte(folder / "a/shard-0")
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    process = context.Process(target=hold, args=(f"{folder}.lock", held, done))
    process.start()
    held.wait()
    try:
        assert "a run is using it" in main(["repair", str(folder)])
    finally:
        done.set()
        process.join()
    assert (folder / "a/shard-0").exists()


def test_a_record_that_names_what_lies_elsewhere_deletes_nothing_there(tmp_path):
    folder = build(tmp_path / "key").folder
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in (str(elsewhere), "../elsewhere", ""):
        record = {"seconds": 0, "record": {}, "sha256": {name: "0"}}
        (folder / "COMPLETE").write_text(json.dumps(record))
        with pytest.raises(DamageError, match="damaged or missing: COMPLETE;"):
            read_complete(folder)
        assert repair(folder) == ["COMPLETE"]
        assert elsewhere.is_dir() and (folder / "a/shard-0").exists()


def test_a_link_is_deleted_and_never_what_it_leads_to(tmp_path, capsys):
    folder = build(tmp_path / "key").folder
    outside = tmp_path / "outside"
    (folder / "epoch=2").rename(outside)
    (folder / "epoch=2").symlink_to(outside)
    (folder / "a").rename(tmp_path / "shards")
    (folder / "a").symlink_to(tmp_path / "shards")
    assert main(["verify", str(folder)]) == 0, "what lies on another disk is whole, too"
    flip_a_byte(outside / "adapter")
    flip_a_byte(tmp_path / "shards" / "shard-0")
    assert main(["repair", str(folder)]) == 0
    assert "deleted a, epoch=2, COMPLETE" in capsys.readouterr().out
    assert {path.name for path in outside.iterdir()} == {"adapter", "moments", "sha256.json"}
    assert (tmp_path / "shards" / "shard-0").exists()
    assert sorted(path.name for path in folder.iterdir()) == ["epoch=1", "example_ids.json", "key.json"]


def test_a_record_that_is_a_folder_is_deleted_by_a_repair(tmp_path):
    folder = build(tmp_path / "key").folder
    (folder / "COMPLETE").unlink()
    (folder / "COMPLETE").mkdir()
    with pytest.raises(DamageError, match="damaged or missing: COMPLETE;"):
        read_complete(folder)
    assert repair(folder) == ["COMPLETE"]
    assert build(folder).record == {"built": []}


def test_of_a_half_built_artifact_a_damaged_epoch_goes_with_all_later_ones(tmp_path, capsys):
    folder = build(tmp_path / "key").folder
    (folder / "COMPLETE").unlink()
    flip_a_byte(folder / "epoch=1" / "adapter")
    with pytest.raises(DamageError, match="damaged or missing: epoch=1; 'python -m "):
        build(folder)
    assert "damaged or missing: epoch=1;" in main(["verify", str(folder)])
    assert main(["repair", str(folder)]) == 0
    assert "deleted epoch=1, epoch=2; the next run" in capsys.readouterr().out
    assert build(folder).record == {"built": list(FILES[:4])}


def test_a_long_list_of_damage_is_cut(tmp_path):
    folder = tmp_path / "key"
    for epoch in range(1, 13):
        (folder / f"epoch={epoch}").mkdir(parents=True)
    assert "epoch=7 and 2 more; " in main(["verify", str(folder)])
