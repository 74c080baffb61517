import pytest
import torch

from lessexp.proxies.factors import Factors
from lessexp.proxies.low_rank_linear import LowRankLinear, low_rank_layers


def parts(out_features=6, rank=2, in_features=5):
    generator = torch.Generator().manual_seed(0)
    shapes = (out_features, rank), (rank, in_features), (out_features,)
    up, down, bias = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return Factors(up, down), bias


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("batch", [(), (3,), (2, 4)])
def test_forward_equals_a_linear_layer_with_the_weight_multiplied_out(has_bias, batch):
    factors, bias = parts()
    layer = LowRankLinear(factors, bias if has_bias else None)
    x = torch.randn(*batch, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = torch.nn.functional.linear(x, factors.weight, bias if has_bias else None)
    # float64 rounding of another order of products.
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.weight, factors.weight, rtol=0, atol=0)


def test_layer_tells_its_sizes_and_owns_its_factors_alone():
    layer = LowRankLinear(*parts(out_features=6, rank=2, in_features=5))
    assert (layer.out_features, layer.rank, layer.in_features) == (6, 2, 5)
    assert {name: tuple(value.shape) for name, value in layer.state_dict().items()} == {
        "down.weight": (2, 5),
        "up.weight": (6, 2),
        "bias": (6,),
    }


def test_low_rank_layers_are_found_by_name():
    model = torch.nn.Sequential(torch.nn.Linear(5, 5), LowRankLinear(*parts()))
    assert low_rank_layers(model) == {"1": model[1]}
