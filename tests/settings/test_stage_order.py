import pytest

from lessexp.errors import ExperimentError
from lessexp.settings.stage_order import STAGES, stages_to_run
from lessexp.stages.composition import options
from tests.stages.conftest import compose_from


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["selector=random"], ["select", "report"]),
        (["selector=less"], ["warmup", "gradients", "select", "report"]),
        (["selector=iprox"], ["warmup", "proxy", "gradients", "select", "report"]),
        (["selector=iprox", "proxy=none"], ["warmup", "gradients", "select", "report"]),
        (["selector=rds"], ["representations", "select", "report"]),
        (["selector=perplexity"], ["representations", "select", "report"]),
    ],
)
def test_to_select_a_run_does_what_its_selector_reads_and_trains_nothing(overrides, expected):
    assert stages_to_run(compose_from(*overrides, "selector.stages=[select]")) == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("[warmup]", ["warmup"]),
        ("[gradients]", ["warmup", "gradients"]),
        ("[finetune]", ["warmup", "gradients", "select", "finetune", "report"]),
        ("[evaluate]", ["warmup", "gradients", "select", "finetune", "evaluate", "report"]),
        ("[report]", ["warmup", "gradients", "select", "report"]),
    ],
)
def test_a_stage_brings_those_that_it_needs(asked, expected):
    assert stages_to_run(compose_from("selector=less", f"selector.stages={asked}")) == expected


@pytest.mark.parametrize("selector", options("selector"))
def test_the_shipped_lists_are_whole(selector):
    cfg = compose_from(f"selector={selector}")
    assert stages_to_run(cfg) == list(cfg.selector.stages)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("[]", r"selector\.stages=\[\] names no stage; give some of warmup, proxy"),
        ("[slect]", "'slect' is no stage; did you mean select"),
        ("[everything]", "'everything' is no stage; the stages are warmup, "),
        ("[select,select]", r"names a stage twice or out of order; write \[select\]"),
        ("[finetune,select]", r"out of order; write \[select,finetune\]"),
        ("[representations]", "selector=less has no settings for representations"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(asked, message):
    with pytest.raises(ExperimentError, match=message):
        stages_to_run(compose_from("selector=less", f"selector.stages={asked}"))


def test_every_stage_has_its_place():
    from lessexp.pipeline import STAGES as RUN

    assert tuple(RUN) == STAGES
