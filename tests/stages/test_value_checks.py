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
from tests.stages.conftest import SHRUNK, compose_from

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
    "9" * 30,
    "[]",
    "[1,a]",
    "{}",
    "{a:1}",
    "''",
    "abc",
]
values = st.one_of(st.sampled_from(WORDS), st.sampled_from(TEXTS).map(quoted), st.text(max_size=8).map(quoted))
MORE = [
    "gradients.tokens_per_batch",
    "data.paths",
    "target.path",
    "benchmark.path",
    "logger.loggers",
    "aggregate",
    "dedup",
    "pool_sample",
    "lora",
    "warmup.training",
    "projection.seed",
    "chat_format",
    "model.name",
    "model.source",
    "datastore",
    "model",
    "gradients.direction",
    "projection._target_",
    "selector.scorer",
    "aggregate._target_",
    "influence.row_weights",
]
keys = st.sampled_from([key for key in RULES if key != "fraction"] + MORE)


@given(st.lists(st.tuples(keys, values), min_size=1, max_size=2))
@example([("datastore.rows_per_shard", "0")])
@example([("seed", "abc")])
@example([("lora.dropout", "0")])
@example([("warmup.training.learning_rate", "9" * 30)])
@example([("chat_format", "null")])
@example([("chat_format", quoted("a\0b"))])
@example([("model.source", "abc")])
@example([("lora", "null")])
@example([("target.path", quoted("a\0b"))])
def test_any_value_passes_the_preflight_or_is_refused_and_writes_nothing(compose_config, tmp_path, drawn):
    compose_config()  # writes the rows
    before = files_under(tmp_path)
    try:
        check_options([f"{key}={value}" for key, value in drawn])
        experiment = Experiment(compose_config(*(f"{key}={value}" for key, value in drawn)), tmp_path / "run")
        preflight(experiment)
        set_artifact_paths(experiment)
    except UserError as error:
        assert str(error)
    except Exception as error:
        # What Hydra refuses before the program begins, `run.py` shows as Hydra does and `compose_config` names.
        assert type(error).__module__.startswith("hydra"), drawn
    assert files_under(tmp_path) == before


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
