import pytest
import torch
from peft import PeftModel

from lessexp.errors import MissingFileError
from lessexp.models.causal_lm import load_causal_lm
from lessexp.training.trained_part import ADAPTER, ALL_WEIGHTS


@pytest.fixture
def whole_model(model_folder):
    return load_causal_lm(model_folder, dtype="float32", device="cpu")


def logits(model, batch):
    return model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits


def test_an_adapter_is_kept_as_peft_keeps_it(lora_model, whole_model, batch, tmp_path):
    values = {name: 2 * parameter.detach() for name, parameter in ADAPTER.parameters(lora_model).items()}
    ADAPTER.save(lora_model, values, tmp_path)
    assert all(torch.equal(tensor, values[name]) for name, tensor in ADAPTER.read(tmp_path).items())
    loaded = ADAPTER.parameters(PeftModel.from_pretrained(whole_model, tmp_path))
    assert all(torch.equal(parameter, values[name]) for name, parameter in loaded.items())


def test_all_weights_are_kept_as_transformers_keeps_them(whole_model, batch, tmp_path):
    values = {name: 2 * parameter.detach() for name, parameter in ALL_WEIGHTS.parameters(whole_model).items()}
    ALL_WEIGHTS.save(whole_model, values, tmp_path)
    assert ALL_WEIGHTS.read(tmp_path).keys() == values.keys()
    loaded = load_causal_lm(tmp_path, dtype="float32", device="cpu")
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter, values[name])
    assert not torch.allclose(logits(loaded, batch), logits(whole_model, batch))


def test_a_folder_without_weights_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=str(tmp_path)):
        ALL_WEIGHTS.read(tmp_path)
