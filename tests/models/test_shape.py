from contextlib import nullcontext

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPTJConfig, LlamaConfig, OPTConfig

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


def test_the_model_says_what_it_can_read(model_folder):
    shape = shape_of(model_folder, LORA, dtype="float32")
    config = load_causal_lm(model_folder, dtype="float32", device="cpu").config
    assert (shape.n_embeddings, shape.trained_positions) == (config.vocab_size, config.max_position_embeddings)


SMALL = dict(vocab_size=70, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(**SMALL, n_positions=24),
        GPTJConfig(**SMALL, n_positions=24, rotary_dim=4),
        OPTConfig(**SMALL, max_position_embeddings=24, ffn_dim=16, word_embed_proj_dim=16),
        LlamaConfig(**SMALL, max_position_embeddings=24, intermediate_size=24),
        LlamaConfig(**(SMALL | {"vocab_size": 24}), max_position_embeddings=24, intermediate_size=24),
    ],
    ids=["learned", "computed beforehand", "learned, with rows before the first", "computed", "as many tokens"],
)
def test_a_table_of_positions_is_where_longer_rows_cannot_be_read(config, tmp_path):
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    endings = ("q_proj", "c_attn")
    shape = shape_of(tmp_path, LoraSettings(2, 4, 0.0, endings), dtype="float32")
    model = load_causal_lm(tmp_path, dtype="float32", device="cpu")
    longer = torch.ones(1, 25, dtype=torch.long)
    with pytest.raises(IndexError) if shape.has_position_table else nullcontext():
        model(input_ids=longer, attention_mask=longer)
    assert shape.has_position_table == (config.model_type != "llama")
    assert shape.trained_positions == 24


def test_what_autograd_keeps_of_a_token_is_about_what_it_keeps_in_a_real_pass(model_folder):
    shape = shape_of(model_folder, LORA, dtype="float32")
    adapted = attach_lora(load_causal_lm(model_folder, dtype="float32", device="cpu"), LORA, seed=0)
    row = TokenizedRow("row", [5] * 64, [-100] * 63 + [5])
    real = saved_bytes(adapted, row, device="cpu") / 64
    assert real == pytest.approx(shape.saved_bytes_a_token, rel=0.2)  # attention is fused, and one token has logits
