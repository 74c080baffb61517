import pytest
import torch

from lessexp.models.causal_lm import load_causal_lm
from lessexp.proxies.compression import replace_layers
from lessexp.proxies.svd import relative_error, svd, truncated_svd

LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.mark.parametrize("shape", [(12, 20), (20, 12), (9, 9)])
@pytest.mark.parametrize("rank", [1, 5])
def test_truncated_svd_leaves_exactly_the_discarded_singular_values(shape, rank):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    factors, values = truncated_svd(weight, rank)
    residual = (weight - factors.weight).norm() / weight.norm()
    # No matrix of this rank is nearer (Eckart and Young); float64.
    assert residual.item() == pytest.approx(relative_error(values, rank), rel=1e-10)


def test_singular_values_are_split_evenly_between_the_factors():
    weight = torch.randn(12, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    factors, values = truncated_svd(weight, 4)
    torch.testing.assert_close(factors.up.T @ factors.up, values[:4].diag(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(factors.down @ factors.down.T, values[:4].diag(), rtol=1e-10, atol=1e-10)


def test_higher_sparsity_moves_the_logits_further(model_folder, batch):
    dense = load_causal_lm(model_folder, dtype="float32", device="cpu")(input_ids=batch.input_ids).logits
    errors = []
    for sparsity in (0.1, 0.5, 0.9):
        model = load_causal_lm(model_folder, dtype="float32", device="cpu")
        made = svd(model, [], sparsity=sparsity, rank_multiple=1, layers=LAYERS)
        # Rounded to whole ranks of at most 21.
        assert made.sparsity == pytest.approx(sparsity, abs=0.03)
        replace_layers(model, made.factors)
        errors.append((model(input_ids=batch.input_ids).logits - dense).square().mean().item())
    assert 0 < errors[0] < errors[1] < errors[2]
