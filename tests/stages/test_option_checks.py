import pytest
from omegaconf import OmegaConf

from lessexp.stages import option_checks
from lessexp.stages.configuration import ExperimentError
from lessexp.stages.option_checks import check_targets_of_options
from tests.stages.conftest import SHRUNK, compose_from, keys_of


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.source", [], r"model\.source must be an option, a group with its _target_, it is \[\]; set single"),
        ("gradients.direction", 3, "gradients.direction must be an option, .* it is 3; set"),
        ("aggregate", None, "aggregate must be an option, .* it is None"),
        ("data", [1, "a"], r"data must be an option, .* it is \[1, 'a'\]"),
        ("warmup.importer", "x", "warmup.importer must be an option, .* it is 'x'"),
        ("proxy.factors", {"positions": 1}, "proxy.factors must be an option, .*positions"),
        ("logger.loggers", [{"_target_": "builtins.dict"}, {}], r"logger\.loggers\[1\] must be an option, .* it is {}"),
        ("proxy.steps", [{"a": 1}], r"proxy\.steps\[0\] must be an option"),
        ("dedup._target_", "lessexp.selection.copies.Nothing", "dedup._target_='lessexp.sel.*Nothing' cannot be found"),
        ("dedup._target_", "", "dedup._target_='' cannot be found; "),
        ("dedup._target_", 7, "dedup._target_=7 cannot be found; "),
        ("projection._target_", "lessexp.gradients", "projection._target_=lessexp.gradients is no class or function"),
    ],
)
def test_what_makes_no_option_is_refused_by_key(key, value, message):
    cfg = compose_from(*SHRUNK)
    OmegaConf.update(cfg, key, value, merge=False, force_add=True)
    with pytest.raises(ExperimentError, match=message):
        check_targets_of_options(cfg)


@pytest.mark.parametrize(
    "overrides", [[], ["proxy=ipsvd", "alignment=second_order"], ["proxy=layer_drop"], ["logger=csv"]]
)
def test_the_shipped_options_pass(overrides):
    check_targets_of_options(compose_from(*overrides))


def test_an_error_of_the_users_own_module_is_shown(tmp_path, monkeypatch):
    (tmp_path / "own_selector.py").write_text("import a_package_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ExperimentError, match=r"selector\.scorer\._target_='own_selector.Mine' cannot be found; .*a_package_not_there"
    ):
        check_targets_of_options(compose_from(*SHRUNK, "selector.scorer._target_=own_selector.Mine"))


def test_every_option_of_the_experiment_is_looked_at():
    """Whatever the stages make by its ``_target_`` is checked before the first of them runs."""
    cfg = compose_from("proxy=ipsvd", "alignment=second_order")
    made = {
        key
        for key in keys_of(cfg)
        if key.count(".") < 2  # what lies deeper is a setting of another option
        and not key.startswith("protocol.")  # templates are settings of a benchmark
        and OmegaConf.is_dict(option := OmegaConf.select(cfg, key))
        and "_target_" in option
    }
    assert made - {*option_checks._ALWAYS, *option_checks._OR_NULL} == set()
