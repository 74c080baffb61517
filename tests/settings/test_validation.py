import pytest
from omegaconf import OmegaConf

from lessexp.errors import ExperimentError
from lessexp.settings.validation import known_keys, unknown_key, validate
from tests.stages.conftest import SHRUNK, compose_from

GIVEN = [*SHRUNK, "data.paths=[pool.jsonl]", "target.path=target.jsonl"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+fracton=0.1", "fracton is not a setting; did you mean fraction?"),
        ("+warmup.epochs=2", "warmup.epochs is not a setting; did you mean warmup.training.epochs or "),
        ("+finetune.learning_rate=1e-4", "did you mean finetune.training.learning_rate or warmup.training."),
        ("++warmup.training.epoch=2", "warmup.training.epoch is not a setting; did you mean warmup.training.epochs?"),
        ("+lora.r=4", "lora.r is not a setting; did you mean lora.rank?"),
        ("+datastore.type=int8", "datastore.type is not a setting; did you mean datastore.dtype?"),
        ("+data.pahts=a.jsonl", "data.pahts is not a setting; did you mean data.paths?"),
        ("+selector.scorer.wramup=1", "selector.scorer.wramup is not a setting; did you mean selector.scorer.warmup?"),
        ("+evaluation.bootstrap.n=3", "evaluation.bootstrap.n is not a setting"),
        ("+model.source.revison=x", "model.source.revison is not a setting; did you mean model.source.revision?"),
        ("+influence.row_weights.power=2", "influence.row_weights.power is not a setting"),
        ("+zzz.y=1", "zzz is not a setting; python run.py --cfg job shows all settings"),
    ],
)
def test_an_unknown_key_is_refused_at_every_level_with_the_nearest_one(override, message):
    cfg = compose_from(*GIVEN, override)
    with pytest.raises(ExperimentError) as caught:
        validate(cfg)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["data=reasoning_gym", "+data.families.leg_counting={}"],
        ["model=llama2_7b", "+data.counts.mine=3"],
        ["model=llama2_7b", "target=mmlu", "+protocol.mmlu.by_subtask.law={header: Law.}"],
        ["projection=sparse_sign", "projection.nonzeros=2"],
        ["logger=csv"],
        ["+chat_format.tokenizer=null"],
    ],
)
def test_entries_of_a_dictionary_and_further_arguments_of_an_option_may_be_added(overrides):
    validate(compose_from(*overrides))


def test_absent_keys_get_their_defaults():
    cfg = compose_from(*GIVEN)
    for key in ("model.path", "model.quantization", "selector.fraction", "resume", "datastore.also", "trainer"):
        group, _, name = key.rpartition(".")
        node = OmegaConf.select(cfg, group) if group else cfg
        with pytest.MonkeyPatch.context():
            OmegaConf.set_struct(cfg, False)
            del node[name]
    cfg.trainer = {"device": None}
    OmegaConf.set_struct(cfg, True)
    validate(cfg)
    assert (cfg.model.path, cfg.model.quantization, cfg.resume, cfg.datastore.also) == (None, None, False, [])
    assert (cfg.trainer.processes, cfg.trainer.strategy) == (1, "ddp")
    assert cfg.selector.fraction == cfg.fraction == 0.25
    assert cfg.selection_model == cfg.model


def test_what_is_given_stays_as_it_is():
    cfg = compose_from(*GIVEN, "proxy=ipsvd", "alignment=second_order")
    before = OmegaConf.to_container(cfg, resolve=False)
    validate(cfg)
    after = OmegaConf.to_container(cfg, resolve=False)
    # The proxy of a selector without a stage for it becomes a stage.
    assert after["selector"].pop("stages") == [
        *before["selector"]["stages"][:1],
        "proxy",
        *before["selector"].pop("stages")[1:],
    ]
    assert after == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["benchmark=lm_eval"], "benchmark.tasks is not set; give it on the command line: benchmark.tasks=..."),
        (["target=jsonl"], "target.path is not set"),
        (["seed='${nothing}'"], "seed: Interpolation key 'nothing' not found"),
        (["target=reasoning_gym", "benchmark=mmlu"], "benchmark.task: .*target.task.* do not go together"),
        (["~evaluation.max_new_tokens"], "evaluation.max_new_tokens is missing; its option, or the command line"),
        (["~lora"], "lora is missing; its option, or the command line, must give it"),
    ],
)
def test_what_is_not_given_is_named(overrides, message):
    with pytest.raises(ExperimentError, match=message):
        validate(compose_from(*overrides))


def test_keys_are_those_of_the_configuration_without_what_they_refer_to():
    keys = known_keys(compose_from())
    assert {"seed", "warmup.training.epochs", "model.source._target_", "selection_model"} <= set(keys)
    assert "selection_model.path" not in keys


def test_nothing_is_suggested_where_nothing_is_near():
    assert str(unknown_key("qqqq", ["seed", "fraction"])) == (
        "qqqq is not a setting; python run.py --cfg job shows all settings"
    )
