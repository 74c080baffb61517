import gzip

import pyarrow as pa
import pyarrow.parquet
import pytest

from lessexp.data.arrow_rows import rows_in_memory
from lessexp.data.pool import DataUnavailableError, jsonl_pool, less_pool, sampled
from lessexp.data.rows import Row, write_rows
from lessexp.data.source import SourceSettingsError
from lessexp.errors import MissingFileError
from tests.conftest import make_rows


def write(path, *ids):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rows(path, [Row(path.stem, example_id, (("user", "?"), ("assistant", "!"))) for example_id in ids])


SETTINGS = dict(counts=None, on_bad_row="stop")


def pool(path, **changes):
    return jsonl_pool(**{"path": path, "paths": None} | SETTINGS | changes)


def ids(source):
    return [record["id"] for _, record in source.records()]


@pytest.fixture
def less_folder(tmp_path):
    """The four sources, each in a subfolder, under both of the accepted kinds of name."""
    write(tmp_path / "cot" / "cot_data.jsonl", "cot_0", "cot_1")
    write(tmp_path / "dolly" / "dolly.jsonl", "dolly_0")
    write(tmp_path / "deep" / "er" / "flan_v2_data.jsonl", "flan_0")
    write(tmp_path / "oasst1_data.jsonl", "oasst1_0")
    write(tmp_path / "eval" / "unrelated.jsonl", "unrelated_0")
    return tmp_path


def test_paths_are_read_in_their_order_and_patterns_in_name_order(tmp_path):
    for name in ("b-2", "b-1", "a"):
        write(tmp_path / f"{name}.jsonl", name)
    assert ids(pool([str(tmp_path / "b-*.jsonl"), str(tmp_path / "a.jsonl")])) == ["b-1", "b-2", "a"]
    assert ids(pool(str(tmp_path / "*.jsonl"))) == ["a", "b-1", "b-2"]


def test_files_of_every_kind_may_be_mixed(tmp_path):
    write(tmp_path / "a.jsonl", "a")
    write(tmp_path / "plain.jsonl", "b")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress((tmp_path / "plain.jsonl").read_bytes()))
    row = {"dataset": "c", "id": "c", "messages": [{"role": "assistant", "content": "!"}]}
    pyarrow.parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "c.parquet")
    assert ids(pool([str(tmp_path / "?.*")])) == ["a", "b", "c"]


def test_an_existing_path_is_meant_literally_even_with_brackets(tmp_path):
    write(tmp_path / "rows[1].jsonl", "literal")
    write(tmp_path / "rows1.jsonl", "as a pattern")
    assert ids(pool([str(tmp_path / "rows[1].jsonl")])) == ["literal"]
    assert ids(pool([str(tmp_path / "rows[12].jsonl")])) == ["as a pattern"]


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "rows.jsonl", "at home")
    assert ids(pool("~/rows.jsonl")) == ["at home"]


@pytest.mark.parametrize("missing", ["nowhere.jsonl", "nothing-*.jsonl"])
def test_a_path_that_matches_nothing_is_named(tmp_path, missing):
    write(tmp_path / "rows.jsonl", "a")
    with pytest.raises(MissingFileError) as refused:
        pool([str(tmp_path / "rows.jsonl"), str(tmp_path / missing)])
    assert f"data.path: '{tmp_path / missing}'" in str(refused.value)


def test_an_empty_list_of_paths_is_refused():
    with pytest.raises(SourceSettingsError, match=r"data\.path is not set"):
        pool([])


def test_path_and_paths_are_one_setting(tmp_path):
    write(tmp_path / "rows.jsonl", "a")
    path = str(tmp_path / "rows.jsonl")
    assert pool(path) == pool(None, paths=path) == pool(path, paths=path) == pool(None, paths=[path])
    with pytest.raises(SourceSettingsError, match="two names of one setting"):
        pool(path, paths=[path])
    with pytest.raises(
        SourceSettingsError, match=r"data\.path is not set; give it on the command line: data\.path=FILE"
    ):
        pool(None)


def test_bad_rows_are_skipped_or_stop_the_run(tmp_path):
    write(tmp_path / "rows.jsonl", "a")
    path = str(tmp_path / "rows.jsonl")
    assert [pool(path, on_bad_row=word).skips_bad_rows for word in ("stop", "skip")] == [False, True]
    with pytest.raises(SourceSettingsError, match=r"data\.on_bad_row must be stop or skip, got 'drop'"):
        pool(path, on_bad_row="drop")


def test_less_pool_reads_the_four_sources_in_the_order_of_the_paper(less_folder):
    source = less_pool(str(less_folder), "unused/repo", counts={"dolly": 1}, on_bad_row="stop")
    assert ids(source) == ["flan_0", "cot_0", "cot_1", "dolly_0", "oasst1_0"]
    assert source.counts == {"dolly": 1}


def test_less_pool_names_the_source_that_is_missing_or_ambiguous(less_folder):
    write(less_folder / "copy" / "dolly_data.jsonl", "dolly_1")
    with pytest.raises(MissingFileError, match=r"dolly_data\.jsonl.*found 2"):
        less_pool(str(less_folder), "unused/repo", **SETTINGS)
    for file in less_folder.rglob("dolly*.jsonl"):
        file.unlink()
    with pytest.raises(MissingFileError, match=r"dolly_data\.jsonl.*found 0.*data\.path"):
        less_pool(str(less_folder), "unused/repo", **SETTINGS)


def test_less_pool_without_a_path_reads_the_data_set_of_the_hub(less_folder, monkeypatch):
    asked = []

    def hub(repo_id, *, repo_type, **_):
        asked.append((repo_id, repo_type))
        return str(less_folder)

    monkeypatch.setattr("lessexp.data.pool.snapshot_download", hub)
    assert less_pool(None, "some/repo", **SETTINGS) == less_pool(str(less_folder), "some/repo", **SETTINGS)
    assert asked == [("some/repo", "dataset")]


def test_an_unreachable_hub_names_the_key_that_takes_a_local_folder(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("lessexp.data.pool.snapshot_download", unreachable)
    with pytest.raises(DataUnavailableError, match=r"some/repo.*data\.path"):
        less_pool(None, "some/repo", **SETTINGS)


def test_a_part_of_a_pool_depends_on_ids_and_seed_alone():
    rows = make_rows(60)
    part = sampled(rows_in_memory(rows), n_rows=20, seed=3)
    assert len(set(part.ids)) == 20
    assert part.ids == [row.example_id for row in rows if row.example_id in set(part.ids)]  # in the pool's order
    assert set(sampled(rows_in_memory(rows[::-1]), n_rows=20, seed=3).ids) == set(part.ids)
    assert set(sampled(rows_in_memory(rows), n_rows=20, seed=4).ids) != set(part.ids)
    assert set(sampled(rows_in_memory(rows), n_rows=21, seed=3).ids) > set(part.ids)


@pytest.mark.parametrize("n_rows", [None, 7, 8])
def test_without_a_smaller_number_all_rows_stay(n_rows):
    rows = rows_in_memory(make_rows(7))
    assert sampled(rows, n_rows=n_rows, seed=0) is rows
