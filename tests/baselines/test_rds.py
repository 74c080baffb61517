from functools import partial

import pytest
import torch

from baselines.rds import PooledHiddenStates, last_token, position_weighted_mean
from lessexp.data.tokenize import collate
from lessexp.gradients.memory import Features
from lessexp.models.causal_lm import load_causal_lm

LENGTHS = [1, 4, 7]


@pytest.fixture
def states():
    """Three rows of 5 numbers a token, with nothing that can be calculated with at their padding."""
    values = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(7)[None] < torch.tensor(LENGTHS)[:, None]
    return values.masked_fill(~mask[:, :, None], torch.nan), mask.long()


def test_the_last_token_is_the_last_that_is_not_padding(states):
    values, mask = states
    expected = torch.stack([values[row, length - 1] for row, length in enumerate(LENGTHS)])
    assert torch.equal(last_token(values, mask), expected)


def test_the_weighted_mean_counts_each_token_as_often_as_its_position_says(states):
    values, mask = states
    repeated = [[values[row, i] for i in range(length) for _ in range(i + 1)] for row, length in enumerate(LENGTHS)]
    expected = torch.stack([torch.stack(tokens).double().mean(0) for tokens in repeated])
    # float32 against float64
    torch.testing.assert_close(position_weighted_mean(values, mask).double(), expected, rtol=1e-5, atol=1e-6)


@pytest.fixture(params=[last_token, position_weighted_mean], ids=lambda pooling: pooling.__name__)
def make_features(request, model_folder):
    def make(dtype):
        return PooledHiddenStates(load_causal_lm(model_folder, dtype=dtype, device="cpu"), pooling=request.param)

    return make


def test_features_are_what_pooling_makes_of_the_whole_models_own_hidden_states(make_features, tokenized):
    features = make_features("float32")
    computed = features.compute(collate(tokenized, pad_token_id=1))
    assert isinstance(features, Features)
    assert computed.shape == (len(tokenized), features.proj_dim)
    for index, row in enumerate(tokenized):
        ids = torch.tensor([row.input_ids])
        hidden = features.model(input_ids=ids, output_hidden_states=True).hidden_states[-1]
        expected = features.pooling(hidden, torch.ones_like(ids))[0]
        # float32; a row alone goes through matrix products of other shapes than a padded batch
        torch.testing.assert_close(computed[index], expected, rtol=1e-3, atol=1e-4)


def test_features_are_pooled_in_float32_whatever_the_models_type_and_keep_no_graph(make_features, batch):
    computed = make_features("bfloat16").compute(batch)
    assert computed.dtype == torch.float32 and not computed.requires_grad
    exact = make_features("float32").compute(batch)
    assert torch.cosine_similarity(computed, exact).min() > 0.99  # eight bits in each of the model's steps


def test_a_row_of_one_token_is_that_tokens_state(states):
    values, mask = states
    for pooling in (last_token, partial(position_weighted_mean)):
        assert torch.equal(pooling(values, mask)[0], values[0, 0])
