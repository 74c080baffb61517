import pytest
import torch

from lessexp.benchmark.subject import adapted_model, batches, mixed_rows, warmed_model, warmup_and_other_rows
from lessexp.data.pool import DataUnavailableError
from lessexp.data.rows import write_rows
from lessexp.gradients.per_example import per_example_gradients
from lessexp.models.causal_lm import load_causal_lm, per_example_loss
from lessexp.models.lora import LoraSettings, attach_lora, lora_parameters
from tests.conftest import make_rows


def test_rows_are_drawn_by_the_seed_and_generated_where_there_are_no_files(monkeypatch):
    monkeypatch.delenv("LESSEXP_DATA", raising=False)
    rows = mixed_rows(20, seed=0)
    assert len({row.example_id for row in rows}) == 20
    assert rows == mixed_rows(20, seed=0) != mixed_rows(20, seed=1)


def test_rows_come_from_the_folder_that_is_named(monkeypatch, tmp_path):
    (tmp_path / "train").mkdir()
    write_rows(tmp_path / "train" / "a.jsonl", make_rows(30))
    monkeypatch.setenv("LESSEXP_DATA", str(tmp_path))
    assert {row.example_id for row in mixed_rows(5, seed=0)} <= {f"row-{i:03d}" for i in range(30)}
    with pytest.raises(DataUnavailableError, match=r"train holds 30 rows, 31 are needed"):
        mixed_rows(31, seed=0)


def test_rows_to_warm_up_on_are_others_than_those_to_measure_on_and_of_all_families(monkeypatch):
    monkeypatch.delenv("LESSEXP_DATA", raising=False)
    warmup, others = warmup_and_other_rows(20, seed=0)
    assert len(others) == 20
    assert not {row.example_id for row in warmup} & {row.example_id for row in others}
    assert {row.dataset for row in warmup} == {row.dataset for row in others}


def test_the_model_stands_in_the_middle_of_a_warmup(model_folder, rows):
    subject = adapted_model(model_folder, rank=4)
    for name, parameter in lora_parameters(subject.model).items():
        assert subject.checkpoint.exp_avg[name].shape == parameter.shape
        assert parameter.abs().max() > 0
    batched = batches(rows, model_folder, max_length=200, tokens_per_batch=300)
    assert sum(len(batch.example_ids) for batch in batched) == len(rows)


def test_rows_beyond_the_length_are_an_error_that_counts_them(model_folder, rows):
    with pytest.raises(DataUnavailableError, match="0 of 12 rows have an answer within 4 tokens, 1 are needed"):
        batches(rows, model_folder, max_length=4, tokens_per_batch=300)


def warmed(model_folder, rows, *, steps, seed=0):
    return warmed_model(model_folder, rows, rank=4, max_length=200, steps=steps, learning_rate=1e-2, seed=seed)


def test_the_first_step_of_a_warmup_leaves_the_moments_of_the_mean_gradient(model_folder, rows):
    subject = warmed(model_folder, rows[:3], steps=1)
    settings = LoraSettings(4, 8, 0.0, ("q_proj", "k_proj", "v_proj", "o_proj"))
    fresh = attach_lora(load_causal_lm(model_folder, dtype="float32", device="cpu"), settings, seed=0)
    [batch] = batches(rows[:3], model_folder, max_length=200, tokens_per_batch=10_000)
    mean = {name: grad.mean(dim=0) for name, grad in per_example_gradients(fresh, batch).items()}
    norm = torch.cat([grad.flatten() for grad in mean.values()]).norm()
    for name, grad in mean.items():
        clipped = grad / max(norm.item(), 1.0)
        torch.testing.assert_close(subject.checkpoint.exp_avg[name], 0.1 * clipped, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(subject.checkpoint.exp_avg_sq[name], 1e-3 * clipped.square(), rtol=1e-4, atol=1e-9)


def test_a_warmup_lowers_the_loss_and_its_checkpoint_is_that_of_the_model(model_folder, rows):
    [batch] = batches(rows, model_folder, max_length=200, tokens_per_batch=10_000)
    first, last = (warmed(model_folder, rows, steps=steps) for steps in (1, 12))
    with torch.no_grad():
        before, after = (per_example_loss(subject.model, batch).mean() for subject in (first, last))
    assert after < before
    for name, parameter in lora_parameters(last.model).items():
        assert parameter.grad is None
        assert torch.equal(last.checkpoint.parameters[name], parameter)
        assert last.checkpoint.exp_avg_sq[name].max() > 0
    state = last.checkpoint.state
    assert (state.step, state.betas, state.eps, state.mean_learning_rate) == (12, (0.9, 0.999), 1e-8, 1e-2)


def test_the_seed_draws_adapter_and_steps(model_folder, rows):
    first, again, other = (warmed(model_folder, rows, steps=2, seed=seed) for seed in (0, 0, 1))
    torch.testing.assert_close(first.checkpoint.parameters, again.checkpoint.parameters, rtol=0, atol=0)
    name = next(iter(first.checkpoint.parameters))
    assert not torch.equal(first.checkpoint.parameters[name], other.checkpoint.parameters[name])
