import pytest

from lessexp.data.tokenize import TokenizedRow
from lessexp.gradients.memory import saved_bytes
from lessexp.models.causal_lm import load_causal_lm
from lessexp.models.lora import LoraSettings, attach_lora, lora_parameters
from lessexp.models.shape import shape_of

LORA = LoraSettings(4, 8, 0.0, ("q_proj", "o_proj", "up_proj"))


def test_sizes_are_those_of_the_model_loaded(model_folder):
    shape = shape_of(model_folder, LORA, dtype="float32")
    model = load_causal_lm(model_folder, dtype="float32", device="cpu")
    assert shape.n_parameters == model.num_parameters()
    assert (shape.hidden_size, shape.vocabulary) == (32, model.config.vocab_size)
    adapted = attach_lora(model, LORA, seed=0)
    assert shape.n_adapter_parameters == sum(part.numel() for part in lora_parameters(adapted).values())
    assert shape.n_adapted_parameters == adapted.num_parameters()


def test_what_autograd_keeps_of_a_token_is_about_what_it_keeps_in_a_real_pass(model_folder):
    shape = shape_of(model_folder, LORA, dtype="float32")
    adapted = attach_lora(load_causal_lm(model_folder, dtype="float32", device="cpu"), LORA, seed=0)
    row = TokenizedRow("row", [5] * 64, [-100] * 63 + [5])
    real = saved_bytes(adapted, row, device="cpu") / 64
    assert real == pytest.approx(shape.saved_bytes_a_token, rel=0.2)  # attention is fused, and one token has logits
