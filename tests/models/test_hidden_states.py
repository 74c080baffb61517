import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, LlamaConfig, MistralConfig, Qwen2Config

from lessexp.data.tokenize import collate
from lessexp.models.hidden_states import last_hidden_states

SIZES = dict(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    initializer_range=0.2,
)
FAMILIES = {
    "llama": (LlamaConfig, SIZES),
    "mistral, a window shorter than the padding": (MistralConfig, SIZES | {"sliding_window": 4}),
    "qwen2": (Qwen2Config, SIZES),
    "gemma2, soft caps": (Gemma2Config, SIZES | {"query_pre_attn_scalar": 8}),
    "gpt2, learnt positions": (GPT2Config, {"n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}),
}


@pytest.fixture(params=FAMILIES)
def model(request, tokenizer):
    config, sizes = FAMILIES[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config(vocab_size=len(tokenizer), pad_token_id=1, **sizes)).eval()


def test_they_are_the_last_of_the_whole_models_hidden_states(model, batch):
    whole = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, output_hidden_states=True)
    assert torch.equal(last_hidden_states(model, batch), whole.hidden_states[-1])


def test_the_output_layer_is_fed_by_them_and_does_not_run(model, batch):
    fed, head = [], model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, inputs: fed.append(inputs[0]))
    states = last_hidden_states(model, batch)
    assert not fed
    model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    handle.remove()
    assert torch.equal(states, fed[0])


def test_a_row_alone_has_the_states_that_it_has_in_a_padded_batch(model, tokenized):
    rows = sorted(tokenized, key=lambda row: len(row.input_ids))
    together = last_hidden_states(model, collate(rows, pad_token_id=1))
    assert together.shape[1] > len(rows[0].input_ids) + 4
    for index, row in enumerate(rows):
        alone = last_hidden_states(model, collate([row], pad_token_id=1))[0]
        # float32, matrix products of other shapes
        torch.testing.assert_close(together[index, : len(row.input_ids)], alone, rtol=1e-3, atol=1e-4)
