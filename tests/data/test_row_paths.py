import os
from pathlib import Path

import pytest

from lessexp.data.row_paths import files_named, kind_of, labels_of, stem_of
from lessexp.errors import MissingFileError


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


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(MissingFileError, match="is no regular file"):
        named(tmp_path / "pipe.jsonl")


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
