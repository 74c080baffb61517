from dataclasses import replace

import pytest
import torch

from baselines.perplexity import AnswerLoss, PerplexitySelector, PerplexitySignError
from lessexp.data.tokenize import IGNORED_LABEL, collate
from lessexp.gradients.memory import Features
from lessexp.models.causal_lm import load_causal_lm
from lessexp.selection.base import Selector
from tests.conftest import make_rows

LOSSES = torch.tensor([2.5, 0.0, torch.inf, 0.1, torch.nan, 1 / 3])
POOL = [replace(row, example_id=f"pool-{i}") for i, row in enumerate(make_rows(6))]
TARGET = make_rows(3, target=True)


@pytest.fixture
def pool_store(make_store, tmp_path):
    make_store("pool", LOSSES[None, :, None])
    return str(tmp_path / "pool")


def test_the_feature_is_the_mean_loss_of_the_answers_tokens_alone_or_in_a_batch(model_folder, tokenized):
    features = AnswerLoss(load_causal_lm(model_folder, dtype="float32", device="cpu"))
    assert isinstance(features, Features)
    found = features.compute(collate(tokenized, pad_token_id=1))
    assert found.shape == (len(tokenized), features.proj_dim) and not found.requires_grad
    for index, row in enumerate(tokenized):
        logits = features.model(input_ids=torch.tensor([row.input_ids])).logits[0].double().log_softmax(-1)
        nll = [-logits[place - 1, label] for place, label in enumerate(row.labels) if label != IGNORED_LABEL]
        # float32 model, float64 reference
        torch.testing.assert_close(found[index, 0].double(), torch.stack(nll).mean(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sign", [-1, 1])
def test_scores_are_the_signed_losses_as_stored_to_the_last_bit_zero_among_them(pool_store, sign):
    selector = PerplexitySelector(pool_store=pool_store, sign=sign)
    assert isinstance(selector, Selector)
    scores = selector.score(POOL, TARGET)
    assert scores.example_ids == ["pool-0", "pool-1", "pool-3", "pool-5"]
    assert scores.subtasks == ["sums", "words"]
    assert torch.equal(scores.by_subtask, (sign * LOSSES[[0, 1, 3, 5], None]).expand(-1, 2))


def test_a_loss_that_is_not_finite_is_no_score(pool_store):
    scores = PerplexitySelector(pool_store=pool_store, sign=-1).score(POOL, TARGET)
    assert scores.excluded == dict.fromkeys(["pool-2", "pool-4"], "its loss is not finite")


def test_another_sign_is_refused(pool_store):
    with pytest.raises(PerplexitySignError, match=r"sign must be -1 \(lowest perplexity first\) or 1 .*, got 0"):
        PerplexitySelector(pool_store=pool_store, sign=0)
