import json

import numpy as np
import pytest

from lessexp.benchmark import pool
from lessexp.benchmark.pool import common_words, made_up_rows, measure

WORDS = [f"w{i}" for i in range(500)]


def test_made_up_rows_have_different_ids_and_the_mean_length_asked_for():
    rows = list(made_up_rows(2500, words=WORDS, mean_words=40, seed=0))
    assert len({row.example_id for row in rows}) == 2500
    lengths = [sum(content.count(" ") + 1 for _, content in row.messages) for row in rows]
    # The standard error of a mean of 2500 such lengths is 0.8 % of it; two words and rounding come on top.
    assert np.mean(lengths) == pytest.approx(41.5, rel=0.04)
    assert np.std(np.log(lengths)) == pytest.approx(0.7, rel=0.1)
    assert rows == list(made_up_rows(2500, words=WORDS, mean_words=40, seed=0))


def test_words_are_whole_ones_of_the_vocabulary_in_its_order():
    vocabulary = {"Ġthe": 5, "Ġof": 3, "ing": 1, "Ġ": 2, "Ġ42": 4, "Ġa": 0}
    assert common_words(json.dumps({"model": {"vocab": vocabulary}})) == ["of", "the"]


def prepared_here(*arguments):
    return pool.prepare(*arguments) | {"peak_memory_bytes": 2, "peak_summed_resident_bytes": 3}


@pytest.fixture
def tiny(monkeypatch, model_folder):
    monkeypatch.setattr(pool, "smollm2_folder", lambda: model_folder)
    monkeypatch.setattr(pool, "common_words", lambda _: WORDS)


def test_a_small_pool_gives_figures_that_fit_together(monkeypatch, tiny):
    monkeypatch.setattr(pool, "prepared_in_fresh_process", prepared_here)
    results = measure(n_rows=30, mean_words=5, max_length=512, num_proc=1)
    assert results["n_rows"] == results["n_ready"] == 30
    assert results["rows_per_second"] == 30 / results["seconds"]["all"]
    assert results["bytes_written"] > results["bytes_read"] / 2


@pytest.mark.slow
def test_memory_is_that_of_a_process_of_its_own_and_its_children(tiny):
    results = measure(n_rows=30, mean_words=5, max_length=512, num_proc=1)
    # Shared pages are counted once in the first figure, in every process in the second.
    assert 1e8 < results["peak_memory_bytes"] <= results["peak_summed_resident_bytes"]
