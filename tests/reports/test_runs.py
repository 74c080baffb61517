import json
from pathlib import Path

import pytest

from lessexp.reports.runs import SweepError, damaged_runs, read_sweep, unfinished_runs, write_runs
from lessexp.reports.settings import settings_of
from tests.reports.conftest import results

KEPT = Path(__file__).parents[2] / "sweeps" / "results"


def test_runs_come_in_the_order_of_their_jobs_without_seed_places_and_logger(sweep, write_run):
    write_run(sweep / "3", ["selector=bm25", "proj_dim=512", "logger=none", "artifacts_dir=x", "seed=7"], results())
    runs = read_sweep([sweep])
    assert [Path(run.place).name for run in runs] == ["0", "1", "2", "3", "10", "11", "12"]
    assert runs[3].overrides == {"selector": "bm25", "proj_dim": "512"}


def test_an_unfinished_run_is_named_unless_it_is_to_be_left_out(sweep, write_run):
    left = write_run(sweep / "13", ["selector=bm25"], None)
    with pytest.raises(SweepError, match=r"1 of 7 runs in .* did not finish, the first is .*/13;"):
        read_sweep([sweep])
    assert len(read_sweep([sweep], drop_unfinished=True)) == 6
    assert unfinished_runs([sweep]) == [left]


@pytest.mark.parametrize("content", ["", "[]", '{"selector": "less"'])
def test_a_damaged_run_is_named_and_the_others_are_read(sweep, content):
    (sweep / "2" / "results.json").write_text(content)
    assert [Path(run.place).name for run in read_sweep([sweep])] == ["0", "1", "10", "11", "12"]
    damaged = damaged_runs([sweep])
    assert list(damaged) == [sweep / "2"] and str(sweep / "2" / "results.json") in damaged[sweep / "2"]
    for run in read_sweep([sweep]):
        (Path(run.place) / "results.json").write_text(content)
    with pytest.raises(SweepError, match=r"sweep/0/results\.json"):
        read_sweep([sweep])


def test_a_run_is_of_what_its_results_say_whatever_a_later_command_left_in_its_folder(tmp_path, write_run):
    record = results() | {"overrides": ["selector=less", "seed=0", "proj_dim=8"], "settings": {}, "files": {}}
    write_run(tmp_path / "0", ["selector=random", "seed=5"], record)
    [run] = read_sweep([tmp_path])
    assert run.overrides == {"selector": "less", "proj_dim": "8"}
    write_runs(tmp_path / "runs.json", [run])
    [kept] = read_sweep([tmp_path / "runs.json"])
    assert kept.overrides == run.overrides and not {"overrides", "settings", "files"} & kept.results.keys()


def test_a_folder_without_finished_runs_is_refused(tmp_path, write_run):
    with pytest.raises(SweepError, match="holds no run"):
        read_sweep([tmp_path])
    write_run(tmp_path / "0", [], None)
    with pytest.raises(SweepError, match="1 of 1 runs"):
        read_sweep([tmp_path], drop_unfinished=True)


def test_runs_kept_in_a_file_join_those_of_a_folder(sweep, tmp_path, write_run):
    kept = tmp_path / "runs.json"
    write_runs(kept, read_sweep([sweep]))
    assert read_sweep([kept]) == read_sweep([sweep])
    assert str(sweep) not in kept.read_text()
    write_run(tmp_path / "later" / "0", ["selector=bm25", "logger=none"], results("bm25"))
    assert [s.label for s in settings_of(read_sweep([kept, tmp_path / "later"]))] == ["random", "less", "bm25"]


@pytest.mark.parametrize("content", ["[1]", "{", json.dumps({"runs": [{"results": {}}]})])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "runs.json").write_text(content)
    with pytest.raises(SweepError, match="holds no runs"):
        read_sweep([tmp_path / "runs.json"])


KEPT_RUNS = sorted([*KEPT.glob("selectors_*.json"), *KEPT.glob("*/runs.json")])


@pytest.mark.parametrize("file", KEPT_RUNS, ids=lambda file: str(file.relative_to(KEPT)))
def test_the_kept_runs_of_this_project_can_be_read(file):
    assert all(setting.values for setting in settings_of(read_sweep([file])))


def test_settings_that_differ_in_a_number_come_in_the_order_of_its_value(tmp_path, write_run):
    names = ["d=512,seed=0", "d=512,seed=1", "d=2048,seed=0", "d=16384,seed=0"]
    shares = ["share=0", "share=0.025", "share=0.1", "share=1"]
    for name in reversed([*names, *shares]):
        write_run(tmp_path / name, name.split(","), results())
    assert [Path(run.place).name for run in read_sweep([tmp_path])] == [*names, *shares]
