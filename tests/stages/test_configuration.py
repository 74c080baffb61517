import errno
import os

import pytest
from omegaconf import OmegaConf

from lessexp.errors import UserError
from lessexp.stages.configuration import (
    Configured,
    ExperimentError,
    dropout_draws,
    instantiate,
    lora_settings,
    plain,
    settings_key,
    training_settings,
)


class OwnError(UserError, ValueError):
    pass


def refuse(sentence: str):
    raise OwnError(sentence)


def refused(name: str):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)


def test_plain_values_hold_no_configuration_objects():
    cfg = OmegaConf.create({"d": 4, "sizes": ["${d}", {"twice": 8}]})
    found = plain(cfg)
    assert found == {"d": 4, "sizes": [4, {"twice": 8}]}
    assert type(found) is dict and type(found["sizes"]) is list and type(found["sizes"][1]) is dict


def test_an_object_gets_plain_values():
    made = instantiate(OmegaConf.create({"_target_": "builtins.dict", "sizes": [1, 2]}))
    assert type(made["sizes"]) is list


@pytest.mark.parametrize(
    ("node", "error", "message"),
    [
        ({"_target_": f"{__name__}.refuse", "sentence": "give a number"}, OwnError, "^give a number$"),
        ({"_target_": "builtins.dict", "path": "???"}, ExperimentError, "give it on the command line: node.path=..."),
        ({"_target_": "builtins.dict", "rows": "${absent.key}"}, ExperimentError, "absent.*do not go together"),
        ({"_target_": "builtins.nothing"}, ExperimentError, "^node: Error locating target 'builtins.nothing'"),
        ({"_target_": 3}, ExperimentError, "^node: Expected a callable target, got '3' of type 'int'$"),
    ],
)
def test_what_a_user_got_wrong_comes_out_as_one_sentence(node, error, message):
    cfg = OmegaConf.create({"node": node})
    with pytest.raises(error, match=message):
        instantiate(cfg.node)


def test_a_file_that_must_not_be_read_is_named_with_its_key():
    cfg = OmegaConf.create({"node": {"_target_": f"{__name__}.refused", "name": "rows.jsonl"}})
    with pytest.raises(ExperimentError, match=r"^node: rows\.jsonl: Permission denied; get permission for it, or name"):
        instantiate(cfg.node)


@pytest.mark.parametrize(
    ("key", "overrides"),
    [
        ("proxy.adapter_from", ["proxy=svd", "~proxy.adapter_from"]),
        ("alignment.n_held_out", ["proxy=ipsvd", "alignment=second_order", "~alignment.n_held_out"]),
    ],
)
def test_a_key_taken_out_of_its_group_is_named(make_experiment, key, overrides):
    with pytest.raises(ExperimentError, match=f"^{key} is missing; leave it in place and give it another value$"):
        make_experiment(*overrides)


def test_settings_are_those_of_the_configuration(compose_config):
    cfg = compose_config("lora.rank=3", "warmup.training.learning_rate=0.5")
    assert (lora_settings(cfg).rank, lora_settings(cfg).target_modules[0]) == (3, "q_proj")
    training = training_settings(cfg.warmup.training)
    assert (training.learning_rate, training.betas) == (0.5, (0.9, 0.999))


def test_a_whole_number_stands_for_its_float(compose_config):
    cfg = compose_config("lora.dropout=0", "warmup.training.learning_rate=1", "warmup.training.betas=[0,0]")
    training = training_settings(cfg.warmup.training)
    for value in (lora_settings(cfg).dropout, training.learning_rate, *training.betas):
        assert type(value) is float


def test_dropout_draws_by_micro_batches_and_processes_and_nothing_else_does(compose_config):
    def draws(*overrides, n_processes):
        return dropout_draws(compose_config(*overrides), n_processes=n_processes)

    assert draws(n_processes=3) is None
    assert draws("lora.dropout=0.1", "micro_batch_size=2", n_processes=3) == (2, 3)


def test_an_option_is_its_settings_and_not_its_budgets(compose_config):
    cfg = compose_config("proxy=ipsvd")
    found = Configured.of(cfg.proxy.factors, budgets=("moment_bytes",))
    assert "moment_bytes" not in str(found.identity)
    assert found.make().keywords["moment_bytes"] == cfg.proxy.factors.moment_bytes
    other = compose_config("proxy=ipsvd", "proxy.factors.damping=0.5")
    assert Configured.of(other.proxy.factors, budgets=("moment_bytes",)).identity != found.identity


def test_code_that_comes_from_elsewhere_is_a_part_of_an_option(compose_config):
    ours, theirs = (
        Configured({"_target_": name}).identity for name in ("lessexp.selection.top_k.budget", f"{__name__}.draw")
    )
    assert "source" not in ours["_target_"] and len(theirs["_target_"]["source"]) == 16


def draw():
    """Code of a user's own."""


def test_the_key_of_settings_differs_where_results_may_and_nowhere_else(compose_config):
    key = settings_key(compose_config())
    for override in ("seed=1", "proj_dim=256", "selector=random", "finetune.training.epochs=2", "chat_format=plain"):
        assert settings_key(compose_config(override)) != key
    for override in ("resume=true", "artifacts_dir=/elsewhere", "cache_dir=/other", "preparation.num_proc=1"):
        assert settings_key(compose_config(override)) == key
