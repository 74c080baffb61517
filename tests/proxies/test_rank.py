import pytest

from lessexp.proxies.rank import rank_for_sparsity, reached_sparsity


@pytest.mark.parametrize(
    ("out_features", "in_features", "sparsity", "rank"),
    [
        # Llama-3.2-3B: query, key and value, MLP.
        (3072, 3072, 0.5, 768),
        (1024, 3072, 0.5, 384),
        (8192, 3072, 0.5, 1152),
        (3072, 8192, 0.5, 1152),
        # Qwen2.5-0.5B, key and value: one multiple is already all there is.
        (128, 896, 0.3, None),
        (128, 896, 0.5, None),
        (128, 896, 0.7, None),
    ],
)
def test_rank_holds_the_remaining_share_of_the_parameters_in_multiples_of_128(
    out_features, in_features, sparsity, rank
):
    assert rank_for_sparsity(out_features, in_features, sparsity=sparsity, multiple=128) == rank


# SmolLM2-135M and Qwen2.5-0.5B.
@pytest.mark.parametrize(("out_features", "in_features"), [(576, 576), (192, 576), (1536, 576), (896, 896)])
@pytest.mark.parametrize("multiple", [1, 64, 128])
def test_a_layer_is_replaced_only_where_that_saves_parameters(out_features, in_features, multiple):
    ranks = [
        rank_for_sparsity(out_features, in_features, sparsity=percent / 100, multiple=multiple)
        for percent in range(1, 100)
    ]
    found = [rank for rank in ranks if rank is not None]
    assert found and max(found) * (out_features + in_features) < out_features * in_features


@pytest.mark.parametrize(("asked", "reached"), [(0.3, 0.249), (0.5, 0.488), (0.7, 0.659)])
def test_rounding_up_makes_llama_3_2_3b_lose_less_than_asked_for(asked, reached):
    shapes = [(3072, 3072), (1024, 3072), (1024, 3072), (3072, 3072), (8192, 3072), (8192, 3072), (3072, 8192)]
    gone = sum(m * n * reached_sparsity(m, n, rank_for_sparsity(m, n, sparsity=asked, multiple=128)) for m, n in shapes)
    # To the three digits of the published shapes' arithmetic.
    assert gone / sum(m * n for m, n in shapes) == pytest.approx(reached, abs=5e-4)
