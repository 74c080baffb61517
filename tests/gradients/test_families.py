"""The same engine on every family of models: batched gradients against one example at a time."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PhiConfig,
    Qwen2Config,
    Qwen3Config,
)

from lessexp.data.tokenize import collate
from lessexp.gradients.per_example import per_example_gradients
from lessexp.models.causal_lm import per_example_loss
from lessexp.models.lora import LoraSettings, attach_lora, lora_parameters
from tests.conftest import perturb_adapter

SIZES = dict(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    initializer_range=0.2,
)
SEPARATE = ("q_proj", "k_proj", "v_proj", "o_proj")
FAMILIES = {
    "llama": (LlamaConfig, SIZES, SEPARATE),
    "mistral, sliding window": (MistralConfig, SIZES | {"sliding_window": 16}, SEPARATE),
    "qwen2, biases": (Qwen2Config, SIZES, SEPARATE),
    "qwen3, normed heads": (Qwen3Config, SIZES, SEPARATE),
    "gemma, tied and scaled embeddings": (GemmaConfig, SIZES, SEPARATE),
    "gemma2, soft caps": (Gemma2Config, SIZES | {"query_pre_attn_scalar": 8}, SEPARATE),
    "gpt2, joined and transposed weights": (
        GPT2Config,
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2},
        ("c_attn", "c_proj"),
    ),
    "phi, parallel blocks": (
        PhiConfig,
        SIZES | {"partial_rotary_factor": 0.5},
        ("q_proj", "k_proj", "v_proj", "dense"),
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_batched_gradients_equal_autograd_in_every_family(family, tokenizer, tokenized):
    config, sizes, targets = FAMILIES[family]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = AutoModelForCausalLM.from_config(config(vocab_size=len(tokenizer), pad_token_id=1, **sizes))
    settings = LoraSettings(rank=4, alpha=8, dropout=0.0, target_modules=targets)
    model = perturb_adapter(attach_lora(base, settings, seed=0)).eval()
    rows = tokenized[:4]
    batched = per_example_gradients(model, collate(rows, pad_token_id=1))
    parameters = lora_parameters(model)
    assert len(parameters) >= 8
    for index, row in enumerate(rows):
        loss = per_example_loss(model, collate([row], pad_token_id=1)).sum()
        alone = torch.autograd.grad(loss, list(parameters.values()))
        for name, grad in zip(parameters, alone, strict=True):
            assert grad.abs().max() > 1e-6, name
            error = (batched[name][index] - grad).norm() / grad.norm()
            assert error < 1e-3, f"{name}: {error}"  # float32, through soft maxima of wide logits
