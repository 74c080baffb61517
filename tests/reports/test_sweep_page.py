import statistics

import pytest

from lessexp.reports.__main__ import main
from lessexp.reports.results import read_results, write_results
from lessexp.reports.runs import SweepRun, read_sweep
from lessexp.reports.sweep_page import by_setting, seed_agreement, sweep_page, with_pools
from tests.reports.test_run_page import Page, page_of
from tests.reports.written_run import HOSTILE, write_run


@pytest.fixture
def sweep(tmp_path):
    """Two seeds of a random choice, one run of another selector."""
    folders = [write_run(tmp_path / str(seed), selector="random", seed=seed) for seed in (1, 0)]
    return [*folders, write_run(tmp_path / "less %?#" / "2")]


def runs_of(folders, **overrides):
    return [SweepRun(overrides, read_results(folder), str(folder)) for folder in folders]


def test_runs_that_differ_in_their_seed_alone_are_one_setting(sweep):
    settings = by_setting(runs_of(sweep))
    assert {label: [run.results["seed"] for run in same] for label, same in settings.items()} == {
        "random": [0, 1],
        "less": [0],
    }
    wide, narrow = (runs_of(sweep[2:], selector="less", proj_dim=d)[0] for d in ("512", "1024"))
    assert list(by_setting([wide, narrow])) == ["less proj_dim=512", "less proj_dim=1024"]


def test_seeds_agree_as_their_sets_do(sweep):
    first, second, other = ({row["id"] for row in rows(folder)} for folder in sweep)
    pairs = [(first, second), (first, other), (second, other)]
    expected = statistics.mean(len(a & b) / len(a | b) for a, b in pairs)
    assert seed_agreement(runs_of(sweep)) == pytest.approx(expected)
    assert 0 < expected < 1
    assert seed_agreement(runs_of(sweep[:1])) is None


def rows(folder):
    import json

    return map(json.loads, (folder / "selected.jsonl").read_text().splitlines())


def test_a_pool_that_all_share_stands_once_with_what_nobody_selected(sweep):
    runs = dict(zip(("a", "b"), runs_of(sweep[:2]), strict=True))
    for run in runs.values():
        run.results["selection"]["by_dataset"] = {"sums": {"pool": 0.75}, "words": {"pool": 0.25}}
    lines = [["data set", "a", "b"], ["sums", "100.0%", "100.0%"]]
    assert with_pools(lines, runs) == [
        ["data set", "pool", "a", "b"],
        ["sums", "75.0%", "100.0%", "100.0%"],
        ["words", "25.0%", "0.0%", "0.0%"],
    ]
    runs["b"].results["selection"]["by_dataset"] = {"sums": {"pool": 1.0}}
    assert with_pools(lines, runs)[0] == ["data set", "pool of a", "pool of b", "a", "b"]


def test_the_page_shows_settings_side_by_side_and_links_to_their_runs(sweep, tmp_path):
    (sweep[0] / "report.html").write_text(page_of(sweep[0]))
    (sweep[2] / "report.html").write_text(page_of(sweep[2]))
    html = sweep_page(read_sweep(sweep), page_folder=tmp_path, table=[["", "score"], ["random <b>", "1.000"]])
    page = Page(html)
    links = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert [link for link in links if not link.startswith("#")] == ["1/report.html", "less%20%25%3F%23/2/report.html"]
    assert all(link[1:] in page.ids for link in links if link.startswith("#"))
    assert len(page.ids) == len(set(page.ids))
    assert not {"script", "img", "b", "i"} & {tag for tag, _ in page.tags}
    for text in (HOSTILE[0], "random <b>", "random and less", "less, seed 0", "random, seed 1", "Target toy"):
        assert text in page.text
    assert "hunter2" not in html


def test_settings_of_other_targets_stand_apart(sweep, tmp_path):
    results = read_results(sweep[2]) | {"task": "other"}
    write_results(sweep[2], results)
    text = Page(sweep_page(read_sweep(sweep), page_folder=tmp_path, table=[])).text
    assert "Target toy" in text and "Target other" in text and "random and less" not in text
    assert "See the runs below." in text


def test_the_command_writes_the_page_with_the_table(sweep, tmp_path, capsys):
    page = tmp_path / "new" / "sweep.html"
    assert main([*map(str, sweep), "--page", str(page), "--markdown"]) is None
    assert capsys.readouterr().out.startswith("|  | n |")
    text = Page(page.read_text()).text
    assert "random and less" in text and "1.000 ± 0.000" in text and "wanted rows" in text


@pytest.mark.slow
def test_a_phone_shows_the_page_without_scrolling_sideways(sweep, tmp_path, browse):
    html = sweep_page(read_sweep(sweep), page_folder=tmp_path, table=[["", "score"], ["random", "1.000"]])
    script = "const r = page.documentElement; return [view.innerWidth, r.scrollWidth - r.clientWidth, view.pwned ?? 0]"
    assert browse(html, script, 390) == [390, 0, 0]
