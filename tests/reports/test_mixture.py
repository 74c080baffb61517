from dataclasses import replace

import pytest

from lessexp.reports.mixture import refuse_mixed
from lessexp.reports.runs import SweepError
from tests.reports.conftest import runs_of


def with_results(run, **changed):
    return replace(run, results=run.results | changed)


def test_runs_of_one_code_on_the_same_data_have_nothing_to_note():
    assert refuse_mixed([*runs_of("random"), *runs_of("less")]) == []


@pytest.mark.parametrize("changed", [{"git_commit": "b" * 40}, {"versions": {"lessexp": "2", "torch": "2"}}])
def test_another_version_of_the_code_is_refused_and_named_unless_it_is_allowed(changed):
    [random], [less] = runs_of("random"), runs_of("less")
    mixed = [random, with_results(less, **changed)]
    with pytest.raises(SweepError, match=r"random-0 and less-0 are of different code .*--allow-mixed versions"):
        refuse_mixed(mixed, allowed=["data"])
    [note] = refuse_mixed(mixed, allowed=["versions"])
    assert note.count("(1 run)") == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"selection": {"n_pool": 41, "by_dataset": {"sums": {"pool": 1.0}}}},
        {"selection": {"n_pool": 40, "by_dataset": {"words": {"pool": 1.0}}}},
        {"data": {"usable pool": "other", "target": "b"}},
    ],
)
def test_other_data_under_the_same_settings_are_refused_unless_they_are_allowed(changed):
    [random], [less] = runs_of("random"), runs_of("less")
    random = with_results(random, data={"usable pool": "a", "target": "b"})
    mixed = [random, with_results(less, **({"data": random.results["data"]} | changed))]
    with pytest.raises(SweepError, match=r"random-0 and less-0 are of different data \(.*--allow-mixed data"):
        refuse_mixed(mixed, allowed=["versions"])
    [note] = refuse_mixed(mixed, allowed=["data"])
    assert "different data" in note


def test_data_that_the_settings_tell_apart_may_differ():
    [first], [second] = runs_of(data="a"), runs_of(data="b")
    assert refuse_mixed([first, with_results(second, selection={"n_pool": 1, "by_dataset": {}})]) == []


def test_results_that_hold_no_hashes_are_compared_by_their_counts_alone():
    [old], [new] = runs_of("random"), runs_of("less")
    assert refuse_mixed([old, with_results(new, data={"usable pool": "a"})]) == []


def test_test_rows_are_compared_seed_by_seed():
    drawn = [
        with_results(run, data={"test rows": f"drawn by {run.results['seed']}"})
        for selector in ("random", "less")
        for run in runs_of(selector, [0.5, 0.6])
    ]
    assert refuse_mixed(drawn) == []
    drawn[-1] = with_results(drawn[-1], data={"test rows": "others"})
    with pytest.raises(SweepError, match=r"random-1 and less-1 are of different data .*test rows with seed 1"):
        refuse_mixed(drawn)


def test_other_packages_and_uncommitted_changes_are_noted():
    [old], [new] = runs_of("random"), runs_of("less")
    dirty = {"git_commit": "a" * 40 + "-dirty"}
    versions = {"versions": {"lessexp": "1", "torch": "3"}}
    notes = refuse_mixed([with_results(old, **dirty), with_results(new, **dirty, **versions)])
    assert notes == [
        "The runs used several versions of torch: 2, 3.",
        "Some runs are of code with changes that were not committed.",
    ]
