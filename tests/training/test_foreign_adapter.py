import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig

from lessexp.errors import UserError
from lessexp.training.foreign_adapter import ForeignAdapterError, check_adapter_config
from tests.conftest import LORA
from tests.hostile import changed, json_values


@pytest.fixture
def config_file(tmp_path):
    """What peft writes for an adapter, with changes."""

    def write(changes=None, **settings):
        config = LoraConfig(r=4, lora_alpha=8, target_modules=list(LORA.target_modules), task_type="CAUSAL_LM")
        config.save_pretrained(tmp_path)
        path = tmp_path / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | (changes or {}) | settings))
        return path

    return write


def test_the_same_adapter_in_another_order_with_another_dropout_is_accepted(config_file):
    check_adapter_config(config_file(lora_dropout=0.3), LORA)
    check_adapter_config(config_file(target_modules=["o_proj", "self_attn.q_proj", "v_proj", "k_proj"]), LORA)
    check_adapter_config(config_file(target_modules=r".*\.(q|k|v|o)_proj"), LORA)  # left to the parameters' names


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        (replace(LORA, rank=16), r"r is 4, the run has lora\.rank=16; set lora\.rank=4"),
        (replace(LORA, alpha=32), r"lora_alpha is 8, the run has lora\.alpha=32; set lora\.alpha=8"),
        (
            replace(LORA, target_modules=("q_proj", "v_proj")),
            r"target_modules are .*set 'lora\.target_modules=\[k_proj,o_proj,q_proj,v_proj\]'",
        ),
    ],
)
def test_an_adapter_of_other_settings_is_refused_with_the_key_to_set(config_file, lora, message):
    with pytest.raises(ForeignAdapterError, match=message):
        check_adapter_config(config_file(), lora)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_rslora": True}, "use_rslora is true; only plain LoRA"),
        ({"use_dora": True}, "use_dora is true"),
        ({"modules_to_save": ["lm_head"]}, r'modules_to_save is \["lm_head"\]'),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 8}}, "alpha_pattern"),
        ({"layers_to_transform": [1]}, "layers_to_transform"),
        ({"lora_bias": True}, "lora_bias is true"),
        ({"an_option_of_tomorrow": 1}, "an_option_of_tomorrow is 1"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"peft_type": "IA3"}, "peft_type is IA3"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights is 'pissa_niter_4', which trains on changed"),
    ],
)
def test_what_is_not_plain_lora_is_refused_by_name(config_file, changes, message):
    with pytest.raises(ForeignAdapterError, match=rf"adapter_config\.json: {message}"):
        check_adapter_config(config_file(changes), LORA)


ENTRIES = {"r": 4, "lora_alpha": 8, "target_modules": list(LORA.target_modules), "bias": "none", "peft_type": "LORA"}


@given(st.one_of(changed(ENTRIES), json_values))
def test_any_json_is_the_same_adapter_or_is_refused_naming_the_file(tmp_path, record):
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(record))
    try:
        check_adapter_config(path, LORA)
    except UserError as error:
        assert str(error).startswith(str(path))
    else:
        assert (record["r"], record["lora_alpha"]) == (4, 8)
