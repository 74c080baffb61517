import pytest

from lessexp.models.linear_layers import NoSuchLayerError, layers_named, linear_layers
from tests.conftest import build_model


@pytest.fixture(scope="module")
def model():
    return build_model(320)


def test_layers_are_found_by_whole_last_part_of_their_name_in_the_models_order(model):
    found = list(linear_layers(model, ("down_proj", "q_proj")))
    assert found == [f"model.layers.{i}.{part}" for i in (0, 1) for part in ("self_attn.q_proj", "mlp.down_proj")]
    assert layers_named(model, ("proj",)) == {}


@pytest.mark.parametrize(
    ("endings", "message"),
    [
        (("c_attn",), r"no layer's name ends in one of \['c_attn'\]"),
        (("norm",), "model.norm is a LlamaRMSNorm; choose linear layers"),
        (("q_proj", "lm_head"), "lm_head is a Linear; choose linear layers before the output layer"),
    ],
)
def test_what_has_no_per_example_gradient_is_refused_by_name(model, endings, message):
    with pytest.raises(NoSuchLayerError, match=message):
        linear_layers(model, endings)
