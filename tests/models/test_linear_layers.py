import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from lessexp.models.linear_layers import NoSuchLayerError, layers_named, linear_layers, refuse_unknown_layers
from tests.conftest import build_model


@pytest.fixture(scope="module")
def model():
    return build_model(320)


def test_layers_are_found_by_whole_last_part_of_their_name_in_the_models_order(model):
    found = list(linear_layers(model, ("down_proj", "q_proj"), key="some.layers"))
    assert found == [f"model.layers.{i}.{part}" for i in (0, 1) for part in ("self_attn.q_proj", "mlp.down_proj")]
    assert layers_named(model, ("proj",)) == {}
    assert list(layers_named(model, ("1.self_attn.q_proj",))) == ["model.layers.1.self_attn.q_proj"]


@pytest.mark.parametrize(
    ("endings", "message"),
    [
        (("c_attn",), r"some\.layers: no layer's name ends in 'c_attn'; choose from q_proj, .*, down_proj$"),
        (("norm",), r"some\.layers: model\.norm is of type LlamaRMSNorm; choose linear layers"),
        (("embed_tokens", "q_proj"), r"some\.layers: model\.embed_tokens is of type Embedding; choose linear layers"),
        (
            ("q_proj", "lm_head"),
            r"some\.layers: lm_head is of type Linear; .* before the output layer",
        ),
    ],
)
def test_what_has_no_per_example_gradient_is_refused_by_name(model, endings, message):
    with pytest.raises(NoSuchLayerError, match=message):
        linear_layers(model, endings, key="some.layers")


def test_names_may_belong_to_another_model_but_not_to_none(model):
    assert len(linear_layers(model, ("q_proj", "c_attn"), key="some.layers")) == 2
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=320, n_embd=32, n_layer=1, n_head=4))
    refuse_unknown_layers([model, gpt2], ("self_attn.q_proj", "c_attn"), key="some.layers")
    with pytest.raises(NoSuchLayerError, match=r"'q_porj'; choose from q_proj, .*, c_attn"):
        refuse_unknown_layers([model, gpt2], ("q_proj", "q_porj", "c_attn"), key="some.layers")
