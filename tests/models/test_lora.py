from dataclasses import replace

import pytest
import torch
from peft import PeftModel

from lessexp.models.causal_lm import load_causal_lm
from lessexp.models.lora import (
    AdapterMismatchError,
    attach_lora,
    copy_into,
    lora_layers,
    lora_parameters,
    public_name_of_saved,
    read_adapter,
    save_adapter,
)
from tests.conftest import LORA, perturb_adapter


@pytest.fixture
def base(model_folder):
    return load_causal_lm(model_folder, dtype="float32", device="cpu")


def logits(model, batch):
    return model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits


def test_a_fresh_adapter_changes_no_output(base, batch):
    before = logits(base, batch)
    torch.testing.assert_close(logits(attach_lora(base, LORA, seed=0).eval(), batch), before, rtol=0, atol=0)


@pytest.mark.parametrize("training", [True, False])
def test_a_fresh_adapter_is_in_the_mode_of_its_model(base, training):
    model = attach_lora(base.train(training), replace(LORA, dropout=0.3), seed=0)
    assert {module.training for module in model.modules()} == {training}


def test_the_seed_alone_fixes_the_fresh_adapter(model_folder):
    def adapter(seed, global_seed):
        torch.manual_seed(global_seed)
        return lora_parameters(
            attach_lora(load_causal_lm(model_folder, dtype="float32", device="cpu"), LORA, seed=seed)
        )

    first, same, other = adapter(0, 11), adapter(0, 22), adapter(1, 11)
    a_name = next(iter(first))
    assert torch.equal(first[a_name], same[a_name])
    assert not torch.equal(first[a_name], other[a_name])


def test_the_global_generator_is_left_as_it_was(base):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    attach_lora(base, LORA, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_only_the_adapter_is_trained_and_its_names_are_those_of_the_file(lora_model, tmp_path):
    names = list(lora_parameters(lora_model))
    trained = [parameter for parameter in lora_model.parameters() if parameter.requires_grad]
    assert [id(parameter) for parameter in trained] == [
        id(parameter) for parameter in lora_parameters(lora_model).values()
    ]
    assert names[0] == "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    assert len(names) == 2 * 4 * 2  # layers, modules, A and B
    save_adapter(lora_model, tmp_path, lora_parameters(lora_model))
    assert set(read_adapter(tmp_path)) == set(names)


def test_layers_hold_the_same_parameters_in_the_same_order(lora_model):
    layers = lora_layers(lora_model)
    assert [f"{name}.weight" for name in layers] == list(lora_parameters(lora_model))
    assert all(layer.weight is lora_parameters(lora_model)[f"{name}.weight"] for name, layer in layers.items())


def test_the_saved_adapter_loads_with_plain_peft(lora_model, model_folder, batch, tmp_path):
    save_adapter(lora_model, tmp_path, lora_parameters(lora_model))
    base = load_causal_lm(model_folder, dtype="float32", device="cpu")
    loaded = PeftModel.from_pretrained(base, tmp_path).eval()
    torch.testing.assert_close(logits(loaded, batch), logits(lora_model, batch), rtol=0, atol=0)


def test_copying_an_adapter_in_gives_its_outputs(lora_model, base, batch, tmp_path):
    save_adapter(lora_model, tmp_path, lora_parameters(lora_model))
    other = perturb_adapter(attach_lora(base, LORA, seed=3), seed=9).eval()
    copy_into(other, read_adapter(tmp_path))
    torch.testing.assert_close(logits(other, batch), logits(lora_model, batch), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, name: tensors.pop(name), "1 parameters are missing, the first is {name}"),
        (lambda tensors, name: tensors.update(extra=torch.zeros(1)), "1 parameters are unknown, the first is extra"),
        (lambda tensors, name: tensors.update({name: torch.zeros(2, 3)}), r"{name}: shape \(2, 3\) in the file"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_by_name(lora_model, change, message):
    tensors = {name: parameter.detach().clone() for name, parameter in lora_parameters(lora_model).items()}
    name = list(tensors)[3]
    change(tensors, name)
    with pytest.raises(AdapterMismatchError, match=message.format(name=name)):
        copy_into(lora_model, tensors)


def test_the_adapter_is_float32_over_a_bfloat16_model(model_folder):
    model = attach_lora(load_causal_lm(model_folder, dtype="bfloat16", device="cpu"), LORA, seed=0)
    assert {parameter.dtype for parameter in lora_parameters(model).values()} == {torch.float32}


@pytest.mark.parametrize(
    "spelling",
    [
        "base_model.model.layers.0.q_proj.lora_A.weight",
        "base_model.model.layers.0.q_proj.lora_A.default.weight",
        "base_model.model.layers.0.q_proj.lora_A.mine.weight",
        "module.base_model.model.layers.0.q_proj.lora_A.default.weight",
        "_fsdp_wrapped_module.base_model.model.layers.0._fsdp_wrapped_module.q_proj.lora_A.default.weight",
        "model._orig_mod.base_model.model.layers.0._checkpoint_wrapped_module.q_proj.lora_A.weight",
    ],
)
def test_a_parameter_has_one_public_name_whatever_wrapped_it(spelling):
    assert public_name_of_saved(spelling) == "base_model.model.layers.0.q_proj.lora_A.weight"


def test_the_models_own_names_become_the_public_ones(base):
    model = attach_lora(base, LORA, seed=0)
    own = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert [public_name_of_saved(name) for name in own] == list(lora_parameters(model))
