"""Memory that runs out on a batch: it is halved, and the run goes on to the same selection."""

import pyarrow.parquet
import pytest
import torch

from lessexp.gradients.per_example import GradientFeatures
from tests.faults.program import SELECTION

MOST_TOKENS = 100


def memory_for_few_tokens():
    """Make features of larger batches ask for memory that no machine has."""
    compute = GradientFeatures.compute

    def compute_or_run_out(self, batch):
        if batch.input_ids.numel() > MOST_TOKENS:
            torch.empty(2**48)  # a petabyte
        return compute(self, batch)

    GradientFeatures.compute = compute_or_run_out


def scores(run_folder):
    return pyarrow.parquet.read_table(run_folder / "scores.parquet").to_pydict()


def test_the_batch_is_halved_and_the_run_goes_on(place, undisturbed):
    done = place.run(SELECTION, "gradients.tokens_per_batch=4096", before=memory_for_few_tokens)
    assert done.exit_code == 0, done.printed
    assert "out of memory with" in done.printed and "going on with" in done.printed
    found, wanted = scores(place.run_folder), scores(undisturbed.run_folder)
    assert found["example_id"] == wanted["example_id"]
    # Other batches round otherwise, which Adam's root magnifies where it is close to zero.
    assert found["score"] == pytest.approx(wanted["score"], abs=1e-3)


def test_a_row_that_fits_in_no_batch_is_named(place):
    def before():
        global MOST_TOKENS
        MOST_TOKENS = 1
        memory_for_few_tokens()

    stopped = place.run(SELECTION, before=before)
    assert stopped.exit_code == 1
    assert (
        "example 'target-" in stopped.printed and "does not fit in memory on cpu; lower max_length" in stopped.printed
    )
