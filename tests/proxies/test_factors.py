import jaxtyping
import pytest
import torch

from lessexp.proxies.factors import Factors, ProxyError, as_derived, balanced


def lopsided(seed=0):
    """Factors of very different size, as IPSVD's closed form gives them."""
    generator = torch.Generator().manual_seed(seed)
    up, down = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((9, 3), (3, 7)))
    return Factors(up * 1e3, down * 1e-2)


def test_balanced_factors_are_of_the_same_weight_and_share_its_singular_values_evenly():
    factors = lopsided()
    even = balanced(factors)
    # float64 rounding, relative to entries of order 10.
    torch.testing.assert_close(even.weight, factors.weight, rtol=1e-10, atol=1e-10)
    values = torch.linalg.svdvals(factors.weight)[:3]
    torch.testing.assert_close(even.up.T @ even.up, values.diag(), rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(even.down @ even.down.T, values.diag(), rtol=1e-10, atol=1e-9)


def test_any_factors_of_a_weight_balance_to_the_same_ones_up_to_signs():
    factors = lopsided()
    mixing = torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    others = Factors(factors.up @ mixing, torch.linalg.solve(mixing, factors.down))
    once, twice, mixed = balanced(factors), balanced(balanced(factors)), balanced(others)
    for again in (twice, mixed):
        for part in ("up", "down"):
            torch.testing.assert_close(getattr(again, part).abs(), getattr(once, part).abs(), rtol=1e-8, atol=1e-8)
    assert as_derived(factors) is factors


def test_factors_that_cannot_be_multiplied_are_refused_with_their_shapes(monkeypatch):
    # As outside tests, where nothing checks the shapes of arguments beforehand.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ProxyError, match=r"\(6, 2\) and \(3, 5\)"):
        Factors(torch.zeros(6, 2), torch.zeros(3, 5))


@pytest.mark.parametrize(("weight", "kept"), [("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")])
def test_factors_are_kept_no_coarser_than_float32(weight, kept):
    weight = torch.zeros(9, 7, dtype=getattr(torch, weight))
    assert lopsided().to(weight).up.dtype == getattr(torch, kept)
