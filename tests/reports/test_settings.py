import statistics

import pytest

from lessexp.reports.runs import SweepError
from lessexp.reports.settings import measures_of, settings_of
from tests.reports.conftest import results, runs_of


def named(setting):
    """Figures of a setting by name."""
    return {measure.name: by_seed for measure, by_seed in setting.values.items()}


def test_figures_are_kept_by_seed():
    random, less = settings_of([*runs_of("random", [1.0, 1.5, 1.7]), *runs_of("less", [0.5])])
    assert (random.label, less.label, random.n_runs) == ("random", "less", "3")
    assert named(random)["answer_nll"] == {0: 1.0, 1: 1.5, 2: 1.7}
    assert list(named(random)) == ["wanted rows", "answer_nll", "seconds", "FLOP", "bytes"]


def test_only_what_differs_names_a_setting():
    runs = [*runs_of(proj_dim="512", figures=[1.0, 2.0], chat="x"), *runs_of(proj_dim="1024", chat="x")]
    settings = settings_of(runs)
    assert [(setting.label, setting.n_runs) for setting in settings] == [
        ("less proj_dim=512", "2"),
        ("less proj_dim=1024", "1"),
    ]
    assert settings[0].varied == {"proj_dim": "512"}


def test_a_seed_run_twice_is_refused():
    with pytest.raises(SweepError, match="'less' was run more than once with the same seed"):
        settings_of([*runs_of("less"), *runs_of("less")])


def test_runs_that_set_the_same_but_are_of_different_models_are_refused():
    with pytest.raises(SweepError, match="less-0 and less-1 set the same but differ in model"):
        settings_of([runs_of(model="a")[0], runs_of(figures=[1.0, 1.0], model="b")[1]])


def test_runs_of_other_metrics_make_no_table():
    with pytest.raises(SweepError, match="no one table holds both"):
        settings_of([*runs_of("less"), *runs_of("bm25", precision=None)])
    with pytest.raises(SweepError, match="runs of 'less' have"):
        settings_of([runs_of()[0], runs_of(figures=[1.0, 1.0], precision=None)[1]])


def test_a_cost_that_is_not_known_of_every_run_is_left_out():
    first, second = runs_of(figures=[1.0, 1.0])
    reused = results(seed=1, reused_in=5.0)
    del reused["stages"]["gradients"]["artifacts"]["pool_gradients"]["bytes"]
    second.results.update(reused)
    assert "bytes" not in named(settings_of([first, second])[0])


def of_task(task, metric, less, random):
    """Runs of two selectors on a task, in files of its own."""
    places = {"target": task, "target.path": f"{task}.jsonl"}
    runs = [*runs_of("less", less, metric=metric, task=task), *runs_of("random", random, metric=metric, task=task)]
    for run in runs:
        run.overrides.update(places)
    return runs


def test_several_tasks_are_columns_beside_their_mean_seed_by_seed():
    runs = of_task("mmlu", "accuracy", [0.5, 0.7], [0.4, 0.4]) + of_task("bbh", "exact_match", [0.1, 0.5], [0.2, 0.2])
    less, random = settings_of(runs)
    assert (less.label, less.n_runs) == ("less", "2")
    assert list(named(less))[:3] == ["mmlu", "bbh", "average"]
    assert named(less)["average"] == pytest.approx({0: 0.3, 1: 0.6})
    assert statistics.stdev(named(less)["average"].values()) == pytest.approx(0.3 / 2**0.5)
    assert named(random)["average"] == pytest.approx({0: 0.3, 1: 0.3})
    average = next(measure for measure in less.values if measure.name == "average")
    assert (average.tasks, average.direction, average.metric) == (("bbh", "mmlu"), 1, "accuracy, exact_match")
    assert less.untrained[average] == {0: 3.0, 1: 3.0}


def test_a_seed_that_lacks_a_task_is_left_out_of_the_mean_alone():
    runs = of_task("mmlu", "accuracy", [0.5, 0.7], [0.4]) + of_task("bbh", "exact_match", [0.1], [])
    less, random = settings_of(runs)
    assert less.n_runs == "2/1"
    assert named(less)["mmlu"] == {0: 0.5, 1: 0.7}
    assert named(less)["average"] == pytest.approx({0: 0.3})
    assert random.n_runs == "1/0"
    assert "bbh" not in named(random) and "average" not in named(random)
    assert [measure.name for measure in measures_of([random, less])][:3] == ["mmlu", "bbh", "average"]


def test_an_interval_is_over_seeds_where_there_are_three_and_over_rows_where_there_is_one():
    several, [alone] = runs_of("random", [0.1, 0.2, 0.3]), runs_of("less", [0.2])
    alone.results["metrics"]["answer_nll"]["tuned"]["interval"] = [0.15, 0.25]
    random, less, pair = settings_of([*several, alone, *runs_of("bm25", [0.1, 0.2])])
    measure = next(measure for measure in random.values if measure.name == "answer_nll")
    ends, over = random.interval(measure)
    assert (ends, over) == (pytest.approx((0.1, 0.3)), "seeds")
    assert less.interval(measure) == ((0.15, 0.25), "rows")
    assert pair.interval(measure) is None
