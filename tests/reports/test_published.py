import re

import pytest
from omegaconf import OmegaConf

from lessexp.reports.published import _file, published_facts, published_for, published_numbers, published_text
from lessexp.reports.settings import settings_of
from tests.reports.conftest import runs_of
from tests.stages.conftest import compose_from


def found(selector="less", *, unconfirmed=False, model="llama2_7b", task="mmlu", metric="accuracy", **settings):
    """What stands beside a run of the paper's recipe."""
    results = settings.pop("results", {})
    [run] = runs_of(selector, [0.5], metric=metric, task=task, model=model, precision=None, **settings)
    run.results.update(results)
    [setting] = settings_of([run])
    return published_for(setting, next(iter(setting.values)), unconfirmed=unconfirmed)


@pytest.mark.parametrize(
    ("model", "task", "metric", "selector", "value", "sd"),
    [
        ("llama2_7b", "mmlu", "accuracy", "less", 50.2, 0.5),
        ("llama2_7b", "tydiqa", "f1", "random", 52.7, 0.4),
        ("llama2_7b", "bbh", "exact_match", "bm25", 39.8, None),
        ("llama2_13b", "tydiqa", "f1", "less", 54.6, None),
        ("mistral_7b", "bbh", "exact_match", "less", 56.0, None),
    ],
)
def test_numbers_equal_those_of_the_paper(model, task, metric, selector, value, sd):
    number = found(selector, model=model, task=task, metric=metric)
    assert (number.value, number.shown_sd(unconfirmed=False)) == (value, sd)


def test_an_unconfirmed_number_is_left_out_unless_it_is_asked_for():
    assert found("dsir") is None
    number = found("dsir", unconfirmed=True)
    assert (number.value, number.sd, number.confirmed) == (46.1, 0.3, False)
    assert published_text(number, unconfirmed=True) == "46.1? ± 0.3?"


def test_an_unconfirmed_deviation_of_a_confirmed_value_is_left_out_unless_it_is_asked_for():
    number = found(model="llama2_13b")
    assert published_text(number, unconfirmed=False) == "54.0"
    assert published_text(number, unconfirmed=True) == "54.0 ± 0.7?"
    assert published_text(found(), unconfirmed=False) == "50.2 ± 0.5"


def test_every_number_has_a_source_that_names_a_paper_and_says_whether_it_is_confirmed():
    for number in (*published_numbers(), *published_facts()):
        assert re.search(r"arXiv:\d{4}\.\d{5}", number.source)
        assert isinstance(number.confirmed, bool)
    for group in (*_file()["comparable"], *_file()["facts"]):
        assert all("confirmed" in entry for entry in group["entries"])


def test_no_run_has_two_published_numbers():
    keys = [
        (number.model, str(number.tasks), number.selector, number.fraction, str(number.settings))
        for number in published_numbers()
    ]
    assert len(set(keys)) == len(keys)


def test_a_full_run_selects_the_whole_pool():
    assert found("full") is None
    assert found("full", results={"fraction": 1.0}).value == 51.6


def test_another_setting_that_matters_is_not_compared_and_one_that_does_not_is():
    assert found(proj_dim="8192", gradients="adam_released", target__path="dev.jsonl").value == 50.2
    for other in ({"proj_dim": "1024"}, {"gradients": "sgd"}, {"benchmark.limit": "20"}, {"warmup.checkpoints": "[1]"}):
        assert found(**{key.replace(".", "__"): value for key, value in other.items()}) is None


def test_a_further_metric_of_a_benchmark_is_not_compared():
    assert found(task="tydiqa", metric="exact_match") is None
    assert found(task="tydiqa", metric="f1").value == 56.2


def test_less_t_is_compared_by_the_model_that_selects():
    assert found("less_t", model="llama2_13b", unconfirmed=True) is None
    selects = {"selection_model": "llama2_7b"}
    assert found("less_t", model="llama2_13b", unconfirmed=True, results=selects).value == 54.6
    assert found("less", model="llama2_13b", results=selects) is None


def test_ablations_are_compared_by_the_mean_of_all_three_tasks():
    def average(tasks, **settings):
        metrics = {"mmlu": "accuracy", "tydiqa": "f1", "bbh": "exact_match"}
        runs = [
            run
            for task in tasks
            for run in runs_of("less", [0.5], metric=metrics[task], task=task, model="llama2_7b", **settings)
        ]
        [setting] = settings_of(runs)
        return published_for(setting, next(m for m in setting.values if m.name == "average"), unconfirmed=False)

    every = ("mmlu", "tydiqa", "bbh")
    assert average(every).value == 49.3
    assert average(every, warmup__fraction="1.0").value == 50.5
    assert average(every, warmup__checkpoints="[4]").value == 47.8
    assert average(every, warmup__checkpoints="[1,4]") is None
    assert average(every[:2]) is None


def test_the_recipe_of_published_runs_is_the_one_that_naming_their_model_brings():
    cfg = compose_from("selector=less", "model=llama2_7b")
    recipe = _file()["recipe"]
    assert {key: OmegaConf.select(cfg, key) for key in recipe if "." in key} == {
        key: value for key, value in recipe.items() if "." in key
    }
    assert (cfg.projection.proj_dim, cfg.max_length, cfg.fraction) == (recipe["proj_dim"], recipe["max_length"], 0.05)
