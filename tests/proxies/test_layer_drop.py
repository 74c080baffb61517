import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig

from lessexp.proxies.factors import ProxyError
from lessexp.proxies.layer_drop import drop_layers, kept_layers

SIZES = dict(
    vocab_size=50,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=5,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=8,
    initializer_range=0.3,
    pad_token_id=1,
)


def build(config):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config).double().eval()


CONFIGS = {
    "llama": lambda: LlamaConfig(**SIZES),
    "gemma2, every other layer with a window": lambda: Gemma2Config(**SIZES, sliding_window=4, query_pre_attn_scalar=8),
}
TOKENS = torch.tensor([[5, 9, 13, 7, 21, 30, 11, 3, 44]])


@pytest.mark.parametrize("family", CONFIGS)
def test_generating_with_the_cache_gives_the_logits_of_whole_passes(family):
    model = drop_layers(build(CONFIGS[family]()), sparsity=0.4)
    assert model.config.num_hidden_layers == len(model.model.layers) == 3
    settings = dict(max_new_tokens=6, do_sample=False, output_logits=True, return_dict_in_generate=True)
    with_cache, without = (
        torch.stack(model.generate(TOKENS, use_cache=use_cache, **settings).logits) for use_cache in (True, False)
    )
    # Rotations and Gemma's soft caps are float32.
    torch.testing.assert_close(with_cache, without, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", CONFIGS)
def test_the_proxy_is_a_model_of_the_kept_layers(family):
    whole = build(CONFIGS[family]())
    layers = list(whole.model.layers)
    kinds = getattr(whole.config, "layer_types", None)
    proxy = drop_layers(whole, sparsity=0.4)
    assert [layer is layers[number] for layer, number in zip(proxy.model.layers, (0, 1, 3), strict=True)] == [True] * 3
    assert [layer.self_attn.layer_idx for layer in proxy.model.layers] == [0, 1, 2]
    if kinds is not None:
        assert proxy.config.layer_types == [kinds[number] for number in (0, 1, 3)]
    fresh = AutoModelForCausalLM.from_config(proxy.config).double().eval()
    fresh.load_state_dict(proxy.state_dict())
    torch.testing.assert_close(fresh(input_ids=TOKENS).logits, proxy(input_ids=TOKENS).logits, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("n_layers", "sparsity", "kept"), [(30, 0.5, list(range(0, 30, 2))), (4, 0.7, [0]), (5, 0.4, [0, 1, 3])]
)
def test_the_first_of_each_bucket_stays(n_layers, sparsity, kept):
    assert kept_layers(n_layers, sparsity=sparsity) == kept


@pytest.mark.parametrize("sparsity", [0.05, 0.95])
def test_a_proxy_of_all_layers_or_of_none_is_refused(sparsity):
    with pytest.raises(ProxyError, match="of 5 layers"):
        kept_layers(5, sparsity=sparsity)
