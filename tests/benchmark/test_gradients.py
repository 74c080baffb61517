import pytest

from lessexp.benchmark import gradients


@pytest.mark.slow
def test_figures_of_the_real_model_have_their_keys_and_fit_together():
    results = gradients.measure(n_rows=4, max_length=256, tokens_per_batch=512, repeats=1, ranks=[4, 8])
    for suffix in ("", "_r8"):
        seconds = results[f"seconds{suffix}"]
        ratio = seconds["features"]["median"] / seconds["plain"]["median"]
        assert results[f"features_over_plain{suffix}"] == ratio
        assert results[f"released_over_features{suffix}"] == seconds["released"] / seconds["features"]["median"]
        assert 0.5 < results[f"memory_over_plain{suffix}"] < 1.5
