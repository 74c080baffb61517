import contextlib
import os
import socket
from pathlib import Path

import pytest

from lessexp.data.columns import messages
from lessexp.data.hub import hf_pool
from lessexp.data.records import local_records
from lessexp.data.row_paths import files_named, kind_of, labels_of, stem_of
from lessexp.errors import MissingFileError

HUB_SETTINGS = dict(
    paths=None,
    config=None,
    split="train",
    revision=None,
    columns=messages,
    id_column=None,
    dataset=None,
    dataset_column=None,
    counts=None,
    on_bad_row="stop",
)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def named(paths, key="data.path"):
    return files_named(paths, key=key)


def test_a_folder_gives_its_row_files_at_any_depth_by_name_and_no_others(tmp_path):
    wanted = ["a.jsonl", "b/c.CSV", "b/d/e.json.gz", "b/d/f.parquet", "g.NDJSON"]
    touch(tmp_path, *wanted[::-1], "README.md", "script.py", ".cache/x.jsonl", "b/.hidden.jsonl", "h.txt")
    assert [str(path.relative_to(tmp_path)) for path in named(tmp_path)] == wanted
    assert named(f"{tmp_path}/") == named(str(tmp_path)) == named([tmp_path])


def test_a_pattern_gives_files_and_its_folders_only_where_it_matches_nothing_else(tmp_path):
    touch(tmp_path, "a.jsonl", "b/c.jsonl", "d/e.jsonl", "README.md")
    assert named(str(tmp_path / "**")) == [tmp_path / name for name in ("a.jsonl", "b/c.jsonl", "d/e.jsonl")]
    assert named(str(tmp_path / "[bd]")) == [tmp_path / name for name in ("b/c.jsonl", "d/e.jsonl")]


@pytest.mark.parametrize(
    ("name", "kind", "stem"),
    [
        ("pool.jsonl", ".jsonl", "pool"),
        ("pool.JSONL.GZ", ".jsonl", "pool"),
        ("pool.v2.csv", ".csv", "pool.v2"),
        ("pool.v2.gz", ".v2", "pool.v2"),
        ("pool", "", "pool"),
        (".jsonl", "", ".jsonl"),
        ("目標.parquet", ".parquet", "目標"),
    ],
)
def test_a_name_says_what_a_file_holds_and_what_its_rows_are_called(name, kind, stem):
    assert (kind_of(Path(name)), stem_of(Path(name))) == (kind, stem)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("rows.jsonl.zst", r"rows\.jsonl\.zst cannot be read; unpack it, or compress it as \.gz"),
        ("rows.parquet.gz", r"rows\.parquet\.gz cannot be read; unpack it"),
        ("rows.tar.gz", "cannot be read; unpack it"),
        ("rows.arrow", r"cannot be read; write its rows as \.parquet, or name the folder of Dataset\.save_to_disk"),
        ("rows.TXT", r"cannot be read; rename it to \.jsonl if each of its lines is a JSON object"),
        ("rows.xlsx", r"cannot be read; save the sheet as \.csv"),
        ("rows.pkl", r"cannot be read; write its rows as \.jsonl"),
    ],
)
def test_a_file_that_cannot_be_read_names_the_remedy(tmp_path, name, remedy):
    touch(tmp_path, name)
    for path in (tmp_path / name, tmp_path / "rows*"):
        with pytest.raises(MissingFileError, match=f"^data.path: .*{remedy}"):
            named(path)


def test_packed_rows_beside_others_are_not_passed_over(tmp_path):
    touch(tmp_path, "a.jsonl", "b.jsonl.zst", "LICENSE.txt")
    for path in (tmp_path, tmp_path / "*"):
        with pytest.raises(MissingFileError, match=r"b\.jsonl\.zst cannot be read; unpack it"):
            named(path)


def test_a_file_that_several_patterns_match_is_read_once(tmp_path):
    touch(tmp_path, "a.jsonl", "b.jsonl")
    assert named([tmp_path / "b.jsonl", tmp_path / "*.jsonl"]) == [tmp_path / "b.jsonl", tmp_path / "a.jsonl"]


@pytest.mark.parametrize("given", [7, None, {"a": 1}, ["a.jsonl", 7]])
def test_what_is_no_path_is_refused_by_key(given):
    with pytest.raises(MissingFileError, match=r"target\.path must be a path or a list of paths, got "):
        named(given, key="target.path")


def test_a_folder_without_rows_says_what_it_holds(tmp_path):
    (tmp_path / "empty").mkdir()
    touch(tmp_path / "other", "notes.md")
    touch(tmp_path / "saved", "state.json", "data-0.arrow")
    for folder, complaint in (
        ("empty", r"empty holds no row file \(\.jsonl, .*\), it holds no file at all"),
        ("other", "it holds notes.md"),
        ("saved", "saved was written by Dataset.save_to_disk; set data=hf data.path=.*saved$"),
    ):
        with pytest.raises(MissingFileError, match=complaint):
            named(tmp_path / folder)


def odd_places(folder):
    """Places that are no files of rows, and what is said of them."""
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "loop.jsonl").symlink_to("back.jsonl")
    (folder / "back.jsonl").symlink_to("loop.jsonl")
    (folder / "dangling.jsonl").symlink_to("nowhere.jsonl")
    with contextlib.chdir(folder), socket.socket(socket.AF_UNIX) as opened:
        opened.bind("socket.jsonl")  # by a short name: a long path is no address
    return {
        folder / "pipe.jsonl": "is a pipe, which can be read only once",
        folder / "loop.jsonl": "is a symbolic link in a loop of links",
        folder / "dangling.jsonl": r"is a symbolic link to nowhere\.jsonl, which is not there",
        folder / "socket.jsonl": "is a socket",
        Path("/dev/zero"): "is a device",
        Path("/proc/self/status"): "is a file of the kernel",
    }


def test_what_is_no_file_of_rows_is_said_to_be_what_it_is_and_not_waited_for(tmp_path):
    for place, complaint in odd_places(tmp_path).items():
        with pytest.raises(MissingFileError, match=f"^target.path: {place} {complaint}"):
            named(place, key="target.path")
        with pytest.raises(MissingFileError, match=f"^{place} {complaint}"):
            next(local_records(place))
        with pytest.raises(MissingFileError, match=f"{place} {complaint}"):
            hf_pool(str(place), **HUB_SETTINGS)
    with pytest.raises(MissingFileError, match=f"^{tmp_path} is a folder; name a file"):
        next(local_records(tmp_path))
    with pytest.raises(MissingFileError, match="absent: no such file of evaluation data"):
        next(local_records(tmp_path / "absent"))


def test_a_pipe_of_another_program_is_refused_with_the_reason():
    ends = os.pipe()
    try:  # what a shell makes of <(zcat rows.jsonl.gz)
        with pytest.raises(MissingFileError, match="is a pipe, which can be read only once, and rows are read again"):
            named(f"/dev/fd/{ends[0]}")
    finally:
        for end in ends:
            os.close(end)


def test_links_that_lead_back_are_followed_once_and_links_to_other_folders_too(tmp_path):
    touch(tmp_path, "rows/a.jsonl", "rows/b/c.jsonl", "rows/.hidden/d.jsonl", "elsewhere/e.jsonl")
    for name, place in {"up": "..", "b/self": ".", "link": "../elsewhere"}.items():
        (tmp_path / "rows" / name).symlink_to(place)
    wanted = ["a.jsonl", "b/c.jsonl", "link/e.jsonl"]
    (tmp_path / "rows" / "up").unlink()
    (tmp_path / "rows" / "up").symlink_to("../rows")
    assert [str(path.relative_to(tmp_path / "rows")) for path in named(tmp_path / "rows" / "**")] == wanted
    assert named(tmp_path / "**" / "*.jsonl")[:1] == [tmp_path / "elsewhere" / "e.jsonl"]
    assert named(tmp_path / "**" / "b" / "*.jsonl") == [tmp_path / "rows" / "b" / "c.jsonl"]
    assert named(tmp_path / "r*" / "**" / "c.jsonl") == [tmp_path / "rows" / "b" / "c.jsonl"]
    with contextlib.chdir(tmp_path):
        assert named("**/c.jsonl") == [Path("rows/b/c.jsonl")]


def test_a_pattern_that_leads_into_very_many_folders_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("lessexp.data.row_paths._AT_MOST_FOLDERS", 3)
    touch(tmp_path, *(f"{name}/rows.jsonl" for name in "abcd"))
    with pytest.raises(MissingFileError, match=r"data\.path: '\*\*' leads into more than 3 folders"):
        named(tmp_path / "**")


def test_a_path_that_is_a_name_of_the_hub_or_a_url_says_so(tmp_path):
    for path in ("tatsu-lab/alpaca", "hf://datasets/tatsu-lab/alpaca"):
        with pytest.raises(MissingFileError, match=r"of the Hugging Face hub, set data=hf data.path=tatsu-lab/alpaca$"):
            named(path)
        with pytest.raises(MissingFileError, match=r"matches no file$"):
            named(path, key="target.path")
    with pytest.raises(MissingFileError, match="fetch it first"):
        named("https://example.org/rows.jsonl")
    with pytest.raises(MissingFileError, match="matches no file"):
        named("a\0b")
    with pytest.raises(MissingFileError, match=r"data\.path is empty"):
        named([])


def test_files_of_one_stem_are_told_apart_by_the_end_of_their_path(tmp_path):
    files = [tmp_path / name for name in ("x/a/pool.jsonl", "y/a/pool.jsonl", "y/pool.csv", "other.jsonl")]
    assert labels_of(files) == ["x/a/pool.jsonl", "y/a/pool.jsonl", "pool.csv", "other"]
    assert labels_of(files[::-1]) == labels_of(files)[::-1]
    assert labels_of(files[:1] * 2) == ["pool", "pool"]
