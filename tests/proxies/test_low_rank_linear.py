import jaxtyping
import pytest
import torch

from lessexp.proxies.low_rank_linear import LowRankLinear


def factors(out_features=6, rank=2, in_features=5):
    generator = torch.Generator().manual_seed(0)
    shapes = (out_features, rank), (rank, in_features), (out_features,)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("batch", [(), (3,), (2, 4)])
def test_forward_equals_a_linear_layer_with_the_weight_multiplied_out(has_bias, batch):
    up, down, bias = factors()
    layer = LowRankLinear(up, down, bias if has_bias else None)
    x = torch.randn(*batch, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = torch.nn.functional.linear(x, up @ down, bias if has_bias else None)
    # float64 rounding of another order of products.
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.weight, up @ down, rtol=0, atol=0)


def test_layer_tells_its_sizes_and_owns_its_factors_alone():
    layer = LowRankLinear(*factors(out_features=6, rank=2, in_features=5))
    assert (layer.out_features, layer.rank, layer.in_features) == (6, 2, 5)
    assert {name: tuple(value.shape) for name, value in layer.state_dict().items()} == {
        "up": (6, 2),
        "down": (2, 5),
        "bias": (6,),
    }


def test_factors_that_cannot_be_multiplied_are_refused_with_their_shapes(monkeypatch):
    # As outside tests, where nothing checks the shapes of arguments beforehand.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=r"\(6, 2\) and \(3, 5\)"):
        LowRankLinear(torch.zeros(6, 2), torch.zeros(3, 5), None)
