import pytest
import torch

from lessexp.data.tokenize import TokenizedRow, collate
from lessexp.gradients import memory
from lessexp.gradients.adam import PlainGradient
from lessexp.gradients.memory import Batches, OutOfMemoryError, saved_bytes, tokens_that_fit
from lessexp.gradients.per_example import GradientFeatures
from lessexp.gradients.projection import SparseSignProjector


@pytest.fixture
def features(lora_model):
    return GradientFeatures(lora_model, SparseSignProjector(64, seed=0, nonzeros=1), PlainGradient())


def row(length):
    ids = [5 + i % 50 for i in range(length)]
    return TokenizedRow(f"row-{length}", ids, ids)


class Square(torch.nn.Module):
    """Saves exactly its input, of 4 numbers a token."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(4))

    def forward(self, x):
        return (x * self.weight).square()


def test_saved_bytes_are_what_autograd_keeps_parameters_aside(monkeypatch):
    model = Square()
    monkeypatch.setattr(
        memory, "per_example_loss", lambda model, batch: model(torch.ones(batch.input_ids.numel(), 4)).sum(1)
    )
    # x (to differentiate by the weight) and x * weight (to differentiate the square): two of 10 tokens x 4 x 4 bytes.
    assert saved_bytes(model, row(10), device="cpu") == 2 * 10 * 4 * 4


def test_twice_the_memory_takes_twice_the_tokens_up_to_a_bound(features, monkeypatch):
    found = []
    for free in (1 << 26, 1 << 27, 1 << 50, 1):
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: free)
        found.append(tokens_that_fit(features, [row(20), row(40)], device="cpu"))
    assert found[1] == pytest.approx(2 * found[0], abs=1) and 10 < found[0] < memory._MOST_TOKENS / 2
    assert found[2:] == [memory._MOST_TOKENS, 1]


def test_free_memory_is_counted():
    assert 1 << 20 < memory.free_bytes("cpu") < 1 << 50


def limited(features, most_tokens, message="DefaultCPUAllocator: can't allocate memory: you tried"):
    """Features on a machine that holds so many padded tokens; ``tried`` lists the sizes of all batches."""
    compute, tried = features.compute, []

    def on_small_machine(batch):
        tried.append(batch.input_ids.numel())
        if tried[-1] > most_tokens:
            raise RuntimeError(message)
        return compute(batch)

    features.compute = on_small_machine
    return tried


def test_out_of_memory_halves_the_batch_and_those_to_come_and_loses_no_row(features, tokenized):
    rows = sorted(tokenized, key=lambda row: len(row.input_ids))
    expected = features.compute(collate(rows, pad_token_id=1))
    tried, said, done = limited(features, 150), [], []
    batches = Batches(10_000, pad_token_id=1, device="cpu", announce=said.append)
    found = batches.compute(features, rows, advance=done.append)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert sum(done) == len(rows)
    assert batches.tokens_per_batch <= 150 and "out of memory with" in said[0]
    tried.clear()
    batches.compute(features, rows, advance=done.append)
    assert max(tried) <= 150, "a budget found to be too large was used again"


def test_a_single_row_that_does_not_fit_is_named(features, tokenized):
    limited(features, 10)
    batches = Batches(10_000, pad_token_id=1, device="cpu", announce=lambda text: None)
    with pytest.raises(OutOfMemoryError, match=r"example 'row-000' of \d+ tokens does not fit in memory on cpu"):
        batches.compute(features, tokenized[:1], advance=lambda n: None)


def test_other_errors_pass(features, tokenized):
    limited(features, 10, message="shapes differ")
    batches = Batches(10_000, pad_token_id=1, device="cpu", announce=lambda text: None)
    with pytest.raises(RuntimeError, match="shapes differ"):
        batches.compute(features, tokenized, advance=lambda n: None)


def test_failed_allocations_are_told_from_other_errors():
    with pytest.raises(RuntimeError) as failed:
        torch.empty(1 << 60)
    assert memory.is_out_of_memory(failed.value)
    assert memory.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not memory.is_out_of_memory(RuntimeError("shapes differ"))
