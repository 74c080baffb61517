import io
import json
import statistics

import pytest
from rich.console import Console

from lessexp.reports.__main__ import main
from lessexp.reports.sweep import (
    SweepError,
    figures_of,
    read_sweep,
    settings_of,
    sweep_markdown,
    sweep_table,
)


def results(selector, seed, *, nll=1.0, precision=0.5, reused_in=None):
    artifact = {"reused": reused_in is not None, "built_in_seconds": reused_in or 100.0}
    return {
        "selector": selector,
        "seed": seed,
        "selection": {"precision": precision},
        "metrics": {"answer_nll": {"base": {"mean": 3.0}, "tuned": {"mean": nll}}},
        "stages": {
            "gradients": {"seconds": 10.0, "artifacts": {"pool": artifact}},
            "finetune": {"seconds": 5.0, "artifacts": {}},
        },
    }


def write_run(folder, overrides, record):
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {override}\n" for override in overrides) or "[]\n")
    if record is not None:
        (folder / "results.json").write_text(json.dumps(record))


@pytest.fixture
def sweep(tmp_path):
    """Two selectors over three seeds; job 10 comes after job 2."""
    numbers = iter((0, 1, 2, 10, 11, 12))
    for selector, nlls in (("random", (1.0, 1.5, 1.7)), ("less", (0.5, 0.6, 0.4))):
        for seed, nll in enumerate(nlls):
            overrides = [f"selector={selector}", f"seed={seed}", "logger=none"]
            write_run(tmp_path / str(next(numbers)), overrides, results(selector, seed, nll=nll))
    return tmp_path


def test_figures_are_means_and_sample_deviations_over_seeds(sweep):
    random, less = settings_of(read_sweep([sweep]))
    assert (random.label, less.label) == ("random", "less")
    assert random.figures["answer_nll"] == [1.0, 1.5, 1.7]
    lines = sweep_markdown(read_sweep([sweep])).splitlines()
    assert lines[0] == "|  | n | wanted rows | answer_nll | seconds |"
    assert lines[2] == "| (untrained) |  |  | 3.000 |  |"
    assert lines[3] == f"| random | 3 | 50.0 ± 0.0 % | 1.400 ± {statistics.stdev([1.0, 1.5, 1.7]):.3f} | 15 ± 0 |"


def test_what_was_reused_counts_as_if_it_had_been_built():
    assert figures_of(results("less", 0, reused_in=80.0))["seconds"] == 95
    assert figures_of(results("less", 0))["seconds"] == 15


def test_only_what_differs_names_a_setting_and_neither_seed_nor_place_ever_does(tmp_path):
    for job, (d, seed) in enumerate([("512", 0), ("512", 1), ("1024", 0)]):
        overrides = [f"proj_dim={d}", f"seed={seed}", "model=x", f"artifacts_dir=place-{job}"]
        write_run(tmp_path / str(job), overrides, results("less", seed))
    assert [(s.label, len(s.figures["seconds"])) for s in settings_of(read_sweep([tmp_path]))] == [
        ("less proj_dim=512", 2),
        ("less proj_dim=1024", 1),
    ]


def test_a_pool_of_unknown_rows_has_no_share_of_wanted_rows(tmp_path):
    write_run(tmp_path / "0", [], results("less", 0, precision=None))
    assert "wanted rows" not in figures_of(read_sweep([tmp_path])[0].results)


def test_an_unfinished_run_is_named(sweep, capsys):
    write_run(sweep / "13", ["selector=bm25"], None)
    with pytest.raises(SweepError, match=r"1 of 7 runs in .* did not finish, the first is .*/13;"):
        read_sweep([sweep])
    assert "did not finish" in main([str(sweep)])


def test_a_folder_without_runs_and_a_seed_run_twice_are_refused(sweep, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SweepError, match="holds no run"):
        read_sweep([tmp_path / "empty"])
    write_run(sweep / "20", ["selector=less", "seed=0", "logger=none"], results("less", 0))
    with pytest.raises(SweepError, match="'less' was run more than once with the same seed"):
        settings_of(read_sweep([sweep]))


def test_runs_of_other_metrics_make_no_table(sweep):
    write_run(sweep / "20", ["selector=bm25"], results("bm25", 0, precision=None))
    with pytest.raises(SweepError, match="no one table holds both"):
        sweep_markdown(read_sweep([sweep]))


def test_the_command_prints_the_table_and_writes_markdown(sweep, tmp_path, capsys):
    assert main([str(sweep), "--markdown", str(tmp_path / "out" / "table.md")]) is None
    printed = capsys.readouterr().out
    assert "random" in printed and "0.500 ± 0.100" in printed
    assert (tmp_path / "out" / "table.md").read_text() == sweep_markdown(read_sweep([sweep]))


def test_text_in_a_setting_is_shown_as_it_is(tmp_path):
    write_run(tmp_path / "a", ["data=[bold]", "seed=0"], results("less", 0))
    write_run(tmp_path / "b", ["data=a|b", "seed=0"], results("less", 0))
    runs = read_sweep([tmp_path])
    screen = io.StringIO()
    Console(file=screen, width=200).print(sweep_table(runs))
    assert "data=[bold]" in screen.getvalue()
    assert r"data=a\|b" in sweep_markdown(runs)


def test_runs_kept_in_a_file_join_those_of_a_folder(sweep, tmp_path):
    assert main([str(sweep), "--json", str(tmp_path / "kept" / "runs.json")]) is None
    kept = tmp_path / "kept" / "runs.json"
    assert read_sweep([kept]) == read_sweep([sweep])
    write_run(tmp_path / "later" / "0", ["selector=bm25", "seed=0", "logger=none"], results("bm25", 0))
    joined = settings_of(read_sweep([kept, tmp_path / "later"]))
    assert [setting.label for setting in joined] == ["random", "less", "bm25"]
    kept.write_text("[1]")
    with pytest.raises(SweepError, match="holds no runs"):
        read_sweep([kept])
