import json
import multiprocessing
import os
import time

import pytest

from lessexp.artifacts import build_once
from lessexp.prune import entries_in, main
from tests.test_wholeness import hold

DAY = 86400


@pytest.fixture
def artifacts(tmp_path):
    """A warm-up that is finished and two stores, one of them half-built; all of forty days ago."""
    root = tmp_path / "artifacts"

    def fill(folder):
        (folder / "rows").mkdir()
        (folder / "rows" / "shard").write_bytes(b"x" * 1000)
        return {}

    def stop(folder):
        fill(folder)
        raise KeyboardInterrupt

    build_once(root / "warmup" / "aaaaaaaaaaaaaaaa", {}, fill, announce=print)
    build_once(root / "pool_gradients" / "bbbbbbbbbbbbbbbb", {}, fill, announce=print)
    with pytest.raises(KeyboardInterrupt):
        build_once(root / "pool_gradients" / "cccccccccccccccc", {}, stop, announce=print)
    for path in root.rglob("*"):
        os.utime(path, (time.time() - 40 * DAY,) * 2)
    return root


def names(root):
    return [f"{entry.folder.parent.name}/{entry.key[0]}" for entry in entries_in(root)]


def used_by_a_run(tmp_path, *keys, file="results.json"):
    path = tmp_path / "outputs" / "run" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    of_a_stage = {"artifacts": {f"kind-{key}": {"key": key} for key in keys}}
    path.write_text(json.dumps({"stages": {"gradients": of_a_stage}} if file == "results.json" else of_a_stage))
    return str(tmp_path / "outputs")


def test_artifacts_are_listed_and_nothing_is_deleted_without_being_told_to(artifacts, tmp_path, capsys):
    assert main([str(artifacts)]) == 0
    listed = capsys.readouterr().out
    assert "warmup/aaaaaaaaaaaaaaaa" in listed and "half-built" in listed and "built 40 d, used 40 d ago" in listed
    assert "3 artifacts, " in listed
    assert main([str(artifacts), "--half-built", "--older-than", "1"]) == 0
    assert "1 artifacts, " in capsys.readouterr().out
    assert names(artifacts) == ["pool_gradients/b", "pool_gradients/c", "warmup/a"]


@pytest.mark.parametrize(
    ("conditions", "left"),
    [
        (["--half-built"], ["pool_gradients/b", "warmup/a"]),
        (["--half-built", "--older-than", "41"], ["pool_gradients/b", "pool_gradients/c", "warmup/a"]),
        (["--older-than", "39"], []),
    ],
)
def test_what_meets_all_conditions_is_deleted(artifacts, conditions, left, capsys):
    assert main([str(artifacts), *conditions, "--delete"]) == 0
    assert names(artifacts) == left
    assert f"deleted {3 - len(left)} artifacts, {'0 B' if len(left) == 3 else ''}" in capsys.readouterr().out


@pytest.mark.parametrize("file", ["results.json", "stages/gradients.json"])
def test_what_a_run_names_stays_whether_it_was_finished_or_not(artifacts, tmp_path, file):
    outputs = used_by_a_run(tmp_path, "aaaaaaaaaaaaaaaa", "cccccccccccccccc", file=file)
    assert main([str(artifacts), "--unused-by", outputs, "--delete"]) == 0
    assert names(artifacts) == ["pool_gradients/c", "warmup/a"]


@pytest.mark.parametrize("file", ["results.json", "stages/gradients.json"])
def test_a_run_that_is_none_or_cannot_be_read_deletes_nothing(artifacts, tmp_path, file):
    outputs = used_by_a_run(tmp_path, "aaaaaaaaaaaaaaaa", file=file)
    assert "holds no run" in main([str(artifacts), "--unused-by", outputs, f"{outputs}/typo", "--delete"])
    (tmp_path / "outputs" / "run" / file).write_text("{")
    assert f"{file}: not valid JSON" in main([str(artifacts), "--unused-by", outputs, "--delete"])
    assert len(names(artifacts)) == 3


def test_deleting_needs_a_condition_and_a_folder(artifacts, tmp_path):
    assert "--delete needs" in main([str(artifacts), "--delete"])
    assert "no folder of this machine" in main(["s3://bucket/artifacts", "--half-built"])
    assert "must be 0 or more days" in main([str(artifacts), "--older-than", "nan", "--delete"])
    assert len(names(artifacts)) == 3


def test_links_and_what_no_run_has_made_are_passed_over(artifacts, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "dddddddddddddddd").mkdir(parents=True)
    (elsewhere / "dddddddddddddddd" / "key.json").write_text("{}")
    (artifacts / "kind").symlink_to(elsewhere)
    (artifacts / "warmup" / "dddddddddddddddd").symlink_to(elsewhere / "dddddddddddddddd")
    (artifacts / "warmup" / "aaaaaaaaaaaaaaaa" / "link").symlink_to(elsewhere)
    for name in ("my notes", "eeeeeeeeeeeeeeee"):
        (artifacts / "warmup" / name).mkdir()
        (artifacts / "warmup" / name / "text").write_text("mine")
    assert len(names(artifacts)) == 3
    assert main([str(artifacts), "--older-than", "0", "--delete"]) == 0
    assert (elsewhere / "dddddddddddddddd" / "key.json").exists()
    assert (artifacts / "warmup" / "eeeeeeeeeeeeeeee" / "text").exists() and names(artifacts) == []


def test_an_artifact_that_a_run_is_building_stays_and_is_named(artifacts):
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    lock = artifacts / "pool_gradients" / "cccccccccccccccc.lock"
    process = context.Process(target=hold, args=(str(lock), held, done))
    process.start()
    held.wait()
    try:
        assert "cccccccccccccccc stays: a run is using it" in main([str(artifacts), "--older-than", "1", "--delete"])
    finally:
        done.set()
        process.join()
    assert names(artifacts) == ["pool_gradients/c"]


def test_what_a_killed_deletion_left_is_deleted(artifacts):
    folder = artifacts / "pool_gradients" / "cccccccccccccccc"
    folder.rename(folder.with_name(f"{folder.name}.removed.partial"))
    assert main([str(artifacts), "--half-built", "--delete"]) == 0
    assert names(artifacts) == ["pool_gradients/b", "warmup/a"]
