import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lessexp.errors import ExperimentError, UserError
from lessexp.settings.schema import Settings
from lessexp.settings.validation import validate
from lessexp.stages.artifact_paths import set_artifact_paths
from lessexp.stages.composition import quoted
from lessexp.stages.experiment import Experiment
from lessexp.stages.preflight import check_settings, preflight
from tests.hostile import TEXTS, files_under
from tests.stages.conftest import SHRUNK, compose_config, compose_from, keys_of  # noqa: F401  (a fixture)

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
GIVEN = [*SHRUNK, "data.paths=[pool.jsonl]", "target.path=target.jsonl"]
values = st.one_of(st.sampled_from(WORDS), st.sampled_from(TEXTS).map(quoted), st.text(max_size=8).map(quoted))
# A proxy and its alignment have settings that no other run has.
BASES = [[], ["proxy=ipsvd", "alignment=second_order", "alignment.n_held_out=3", "alignment.settings.batch_size=4"]]


KEYS = [keys_of(compose_from(*SHRUNK, *base)) for base in BASES]


@st.composite
def drawn_settings(draw: st.DrawFn) -> tuple[list[str], list[tuple[str, str]]]:
    """A base, and one or two of its settings with values."""
    base, found = draw(st.sampled_from(list(zip(BASES, KEYS, strict=True))))
    keys = st.sampled_from(found)
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
def test_any_value_passes_the_preflight_or_is_refused_and_writes_nothing(compose_config, tmp_path, drawn):  # noqa: F811
    base, settings = drawn
    overrides = [f"{key}={value}" for key, value in settings]
    before = files_under(tmp_path)
    try:
        experiment = Experiment(compose_config(*base, *overrides), tmp_path / "run")
        check_settings(experiment)
        preflight(experiment)
        set_artifact_paths(experiment)
    except UserError as error:
        assert str(error)
    assert files_under(tmp_path) == before


@pytest.mark.parametrize("base", BASES)
def test_what_the_drawn_settings_change_passes_as_it_is(compose_config, tmp_path, base):  # noqa: F811
    preflight(Experiment(compose_config(*base), tmp_path / "run"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("max_length=abc", "max_length should be a valid integer, got 'abc'"),
        ("datastore.rows_per_shard=0", "datastore.rows_per_shard should be greater than or equal to 1, got 0"),
        ("proj_dim=0", "^proj_dim should be greater than or equal to 1, got 0"),
        ("proj_dim=2147483647", "^proj_dim should be less than or equal to 1048576, got 2147483647"),
        ("projection.proj_dim=511", r"^projection\.proj_dim follows proj_dim; set proj_dim in its place, got 511"),
        ("projection.proj_dim=null", r"^projection\.proj_dim follows proj_dim; set proj_dim in its place, got None"),
        ("datastore.also=x", "datastore.also should be a valid list, got 'x'"),
        ("datastore.also=[x]", "datastore.also.0 should be a group with a proj_dim, a dtype or both, got 'x'"),
        ("datastore.also=[{dtype:int8},{}]", r"datastore.also.1 should be a group with .*, got \{\}"),
        ("datastore.also=[{seed:1}]", r"datastore.also.0 should be a group with .*, got \{'seed': 1\}"),
        ("datastore.also=[{proj_dim:0}]", "datastore.also.0.proj_dim should be greater than or equal to 1, got 0"),
        ("datastore.also=[{proj_dim:null}]", "datastore.also.0.proj_dim should be a valid integer, got None"),
        ("datastore.also=[{dtype:3}]", "datastore.also.0.dtype should be a valid string, got 3"),
        ("lora.dropout=nan", "lora.dropout should be a finite number, got nan"),
        ("lora.dropout=1", "lora.dropout should be less than 1, got 1"),
        ("warmup.training.betas=[0.9]", r"warmup.training.betas should have at least 2 items .*, got \[0.9\]"),
        ("warmup.training.learning_rate=" + "9" * 400, "warmup.training.learning_rate should be a valid number, got 9"),
        ("warmup.training.epochs=2147483647", "warmup.training.epochs should be less than or equal to 10000, got 2147"),
        ("resume=perhaps", "resume should be a valid boolean, got 'perhaps'"),
        ("lora.rank=true", "lora.rank should be a valid integer, got True"),
        ("+proxy.rank_multiple=0", "proxy.rank_multiple should be greater than or equal to 1, got 0"),
        ("lora=null", "lora should be a valid dictionary or instance of Lora, got None"),
        ("gradients.tokens_per_batch=some", "tokens_per_batch should be a valid integer or 'auto', got 'some'"),
        ("trainer.processes=0", "trainer.processes should be greater than or equal to 1 or 'auto', got 0"),
        ("fraction=7", "^fraction should be less than or equal to 1, got 7"),
        ("device=''", "device should be a text without a NUL, and not empty, got ''"),
        ("benchmark.limit=-1", "benchmark.limit should be null or a whole number of 1 or more, got -1"),
        ("aggregate._target_=builtins.nothing", r"aggregate._target_ cannot be imported \(.*nothing.*\), got 'built"),
        ("aggregate._target_=lessexp.data", "aggregate._target_ should be the dotted name of a class or function"),
        ("aggregate._target_=3", "aggregate._target_ should be the dotted name of a class or function, got 3"),
        ("selector.scorer._target_=''", "selector.scorer._target_ cannot be imported"),
        ("model.source=null", "model.source should be an option, a group with its _target_, got None"),
        ("logger.loggers=[{a:1}]", "logger.loggers.0 should be an option"),
        ("proxy.steps=[1]", "proxy.steps.0 should be an option, a group with its _target_, got 1"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_key(override, message):
    with pytest.raises(ExperimentError, match=message):
        validate(compose_from(*GIVEN, override))


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "null", "few"])
def test_answers_have_a_length(value):
    with pytest.raises(
        ExperimentError, match=r"^benchmark\.max_new_tokens should be a whole number of 1 or more, got "
    ):
        validate(compose_from(f"benchmark.max_new_tokens={value}"))


def test_another_dimension_is_refused_where_the_projection_has_none():
    also = "datastore.also=[{dtype:int8},{proj_dim:64}]"
    with pytest.raises(ExperimentError, match=r"^datastore\.also\.1\.proj_dim has no effect, .*no dimension, got 64"):
        validate(compose_from(*GIVEN, "projection=identity", also))
    validate(compose_from(*GIVEN, "projection=identity", "datastore.also=[{dtype:int8}]"))


def test_a_nul_is_refused():
    cfg = compose_from(*GIVEN)
    OmegaConf.update(cfg, "model.path", "a\0b")
    with pytest.raises(ExperimentError, match=r"model\.path should be a text without a NUL"):
        validate(cfg)


def test_whole_numbers_pass_as_floats():
    validate(compose_from(*GIVEN, "lora.dropout=0", "warmup.training.learning_rate=1", "warmup.training.betas=[0,0]"))


def test_an_error_of_the_users_own_module_is_shown(tmp_path, monkeypatch):
    (tmp_path / "own_selector.py").write_text("import a_package_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ExperimentError, match=r"selector\.scorer\._target_ cannot be imported \(.*a_package_not_there"):
        validate(compose_from(*GIVEN, "selector.scorer._target_=own_selector.Mine"))


@pytest.mark.parametrize("base", [[], *BASES[1:], ["proxy=layer_drop"], ["selector=rds"], ["model=llama2_7b"]])
def test_every_group_of_a_run_is_in_the_schema_and_no_option_is_read_unchecked(base):
    """What stages make by its ``_target_`` is an option, whose class and arguments are checked before any stage."""
    cfg = compose_from(*base)
    options = {name for name, field in Settings.model_fields.items() if "Option" in str(field) or "dict" in str(field)}
    for key in keys_of(cfg):
        top = key.partition(".")[0]
        assert top in Settings.model_fields, key
        node = OmegaConf.select(cfg, key)
        if OmegaConf.is_dict(node) and "_target_" in node and top not in options:
            OmegaConf.update(node, "_target_", "no.such.thing")
            with pytest.raises(ExperimentError, match="cannot be imported"):
                validate(cfg)
            cfg = compose_from(*base)
