from functools import cache

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lessexp.errors import UserError
from lessexp.stages.artifact_paths import set_artifact_paths
from lessexp.stages.composition import check_options, quoted
from lessexp.stages.configuration import ExperimentError
from lessexp.stages.experiment import Experiment
from lessexp.stages.preflight import preflight
from lessexp.stages.value_checks import RULES, check_values
from tests.hostile import TEXTS, files_under
from tests.stages.conftest import SHRUNK, compose_from, keys_of

# What a command line can say; the last ones are numbers of YAML that no float of sense is.
WORDS = [
    "null",
    "true",
    "0",
    "-1",
    "1",
    "1.5",
    "1e400",
    "nan",
    "-inf",
    "2147483647",
    "9" * 30,
    "[]",
    "[1,a]",
    "{}",
    "{a:1}",
    "''",
    "abc",
]
values = st.one_of(st.sampled_from(WORDS), st.sampled_from(TEXTS).map(quoted), st.text(max_size=8).map(quoted))
# A proxy and its alignment have settings that no other run has.
BASES = [[], ["proxy=ipsvd", "alignment=second_order", "alignment.n_held_out=3", "alignment.settings.batch_size=4"]]


@cache
def keys_from(*base: str) -> list[str]:
    return keys_of(compose_from(*SHRUNK, *base))


@st.composite
def drawn_settings(draw: st.DrawFn) -> tuple[list[str], list[tuple[str, str]]]:
    """A base, and one or two of its settings with values."""
    base = draw(st.sampled_from(BASES))
    keys = st.sampled_from(keys_from(*base))
    return base, draw(st.lists(st.tuples(keys, values), min_size=1, max_size=2))


@given(drawn_settings())
@example(([], [("datastore.rows_per_shard", "0")]))
@example(([], [("seed", "abc")]))
@example(([], [("lora.dropout", "0")]))
@example(([], [("warmup.training.learning_rate", "9" * 30)]))
@example(([], [("warmup.training.epochs", "2147483647")]))
@example(([], [("chat_format", "null")]))
@example(([], [("chat_format", quoted("a\0b"))]))
@example(([], [("model.source", "abc")]))
@example(([], [("lora", "null")]))
@example(([], [("model.source", "[]")]))
@example(([], [("gradients.direction", "3")]))
@example(([], [("benchmark.limit", "-1")]))
@example(([], [("paths", "null"), ("paths", "{}")]))
@example((BASES[1], [("proxy.sparsity", "null")]))
@example((BASES[1], [("proxy.steps", "[1,a]")]))
@example((BASES[1], [("proxy.factors", "null")]))
@example((BASES[1], [("proxy.probes.seed", "abc")]))
@example((BASES[1], [("alignment.settings", "null")]))
@example(([], [("target.path", quoted("a\0b"))]))
def test_any_value_passes_the_preflight_or_is_refused_and_writes_nothing(compose_config, tmp_path, drawn):
    base, settings = drawn
    overrides = [f"{key}={value}" for key, value in settings]
    before = files_under(tmp_path)
    try:
        check_options(overrides)
        experiment = Experiment(compose_config(*base, *overrides), tmp_path / "run")
        preflight(experiment)
        set_artifact_paths(experiment)
    except UserError as error:
        assert str(error)
    except Exception as error:
        # What Hydra refuses before the program begins, `run.py` shows as Hydra does and `compose_config` names.
        assert type(error).__module__.startswith("hydra"), drawn
    assert files_under(tmp_path) == before


@pytest.mark.parametrize("base", BASES)
def test_what_the_drawn_settings_change_passes_as_it_is(compose_config, tmp_path, base):
    preflight(Experiment(compose_config(*base), tmp_path / "run"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("max_length=abc", "max_length must be a whole number from 1 to 2147483647, got 'abc'"),
        ("datastore.rows_per_shard=0", "datastore.rows_per_shard must be a whole number from 1"),
        ("lora.dropout=nan", "lora.dropout must be a number from 0 to below 1, got nan"),
        ("warmup.training.betas=[0.9]", r"warmup.training.betas must be two numbers .*, got \[0.9\]"),
        (
            "warmup.training.learning_rate=" + "9" * 400,
            "warmup.training.learning_rate must be a number above 0, got 999",
        ),
        (
            "warmup.training.epochs=2147483647",
            "warmup.training.epochs must be a whole number from 1 to 10000, got 2147",
        ),
        ("resume=perhaps", "resume must be true or false, got 'perhaps'"),
        ("model.path='a\\0b'", None),
        ("seed='${nothing}'", "seed: Interpolation key 'nothing' not found"),
        ("lora.rank=true", "lora.rank must be a whole number"),
        ("+proxy.rank_multiple=0", r"proxy\.rank_multiple must be a whole number from 1 to .*, got 0"),
        ("lora=null", "lora must be a group of settings, it is None; set single ones"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_key(override, message):
    cfg = compose_from(*SHRUNK, override)
    if message is None:
        OmegaConf.update(cfg, "model.path", "a\0b")
        message = "model.path must be null or a text without a NUL"
    with pytest.raises(ExperimentError, match=message):
        check_values(cfg)


def test_every_rule_is_of_a_key_that_exists_and_is_kept_by_the_shipped_values():
    cfg = compose_from("proxy=ipsvd", "alignment=second_order")
    check_values(cfg)
    check_values(compose_from())
    assert [key for key in RULES if OmegaConf.select(cfg, key, default="absent") == "absent"] == []
