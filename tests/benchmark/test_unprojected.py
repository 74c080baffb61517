import pytest
import torch

from lessexp.benchmark import subject, unprojected
from lessexp.benchmark.unprojected import Gradients, concentrated_gradients, real_gradients
from lessexp.data.pool import DataUnavailableError
from lessexp.gradients.adam import adam_direction
from lessexp.gradients.per_example import per_example_gradients
from tests.conftest import make_rows


def random_gradients(n_rows=8, n_pool=5):
    generator = torch.Generator().manual_seed(0)
    blocks = {name: torch.randn(n_rows, size, generator=generator) for name, size in (("a", 40), ("b", 30))}
    return Gradients(blocks, n_pool)


def test_exact_cosines_are_those_of_the_joined_gradients():
    gradients = random_gradients()
    joined = torch.cat(list(gradients.blocks.values()), dim=1)
    expected = torch.nn.functional.cosine_similarity(joined[:5, None], joined[None, 5:], dim=2)
    torch.testing.assert_close(gradients.exact_cosines(), expected)
    torch.testing.assert_close(gradients.cosines(joined), expected)


def concentrated(seed=0):
    return concentrated_gradients(n_pool=6, n_target=3, n_parameters=5, size=200, n_heavy=16, share=0.9, seed=seed)


def test_a_few_shared_places_in_several_parameters_hold_most_of_every_row():
    gradients = concentrated()
    assert gradients.n_pool == 6
    joined = torch.cat(list(gradients.blocks.values()), dim=1)
    assert joined.shape == (9, 1000)
    torch.testing.assert_close(joined.norm(dim=1), torch.ones(9))
    heavy = joined.square().sum(dim=0).topk(16).indices
    torch.testing.assert_close(joined[:, heavy].square().sum(dim=1), torch.full((9,), 0.9))
    assert len(set((heavy // 200).tolist())) >= 3


def test_rows_of_a_concentrated_case_differ_and_the_seed_draws_them():
    first, again, other = (concentrated(seed) for seed in (0, 0, 1))
    assert first.exact_cosines().abs().max() < 0.95
    torch.testing.assert_close(first.blocks, again.blocks, rtol=0, atol=0)
    assert not torch.equal(first.blocks["parameter_0"], other.blocks["parameter_0"])


@pytest.fixture
def tiny_model(monkeypatch, model_folder):
    """The tiny model in place of SmolLM2; returns a list that the warmed subject is put in."""
    warmed = []

    def remember(*arguments, **settings):
        warmed.append(subject.warmed_model(*arguments, **settings))
        return warmed[-1]

    monkeypatch.setattr(unprojected, "smollm2_folder", lambda: model_folder)
    monkeypatch.setattr(unprojected, "warmed_model", remember)
    monkeypatch.setattr(subject, "WARMUP_ROWS", 4)
    monkeypatch.setattr(subject, "mixed_rows", lambda n, seed: make_rows(n))
    return warmed


def test_pool_rows_are_adam_directions_and_target_rows_plain_gradients(tiny_model, model_folder):
    gradients = real_gradients(n_pool=5, n_target=2, max_length=200, rank=4)
    assert gradients.n_pool == 5
    [warmed] = tiny_model
    [batch] = subject.batches(make_rows(11)[4:], model_folder, max_length=200, tokens_per_batch=10_000)
    checkpoint = warmed.checkpoint
    for name, grad in per_example_gradients(warmed.model, batch).items():
        gamma = adam_direction(
            grad,
            checkpoint.exp_avg[name],
            checkpoint.exp_avg_sq[name],
            step=checkpoint.state.step + 1,
            betas=checkpoint.state.betas,
            eps=checkpoint.state.eps,
        )
        # The shortest and the longest of the seven rows are the target; batches differ, so float32 rounds otherwise.
        torch.testing.assert_close(gradients.blocks[name][5:], grad[[0, 6]].flatten(1), rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(gradients.blocks[name][:5], gamma[1:6].flatten(1), rtol=1e-3, atol=1e-3)


def test_rows_too_few_to_rank_are_refused_before_the_model_is_warmed(tiny_model):
    with pytest.raises(DataUnavailableError, match="0 of 7 rows have an answer within 4 tokens, 4 are needed"):
        real_gradients(n_pool=5, n_target=2, max_length=4, rank=4)
    assert not tiny_model
