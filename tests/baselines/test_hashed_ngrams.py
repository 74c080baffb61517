import hashlib

import numpy as np
import pytest

from baselines.hashed_ngrams import buckets_of, hashed_ngrams
from baselines.words import whole_text, words_and_punctuation
from tests.conftest import make_rows

TEXTS = [words_and_punctuation(whole_text(row)) for row in make_rows(20)]
ODD = [[], ["a"], ["a", "b"], [], ["a", "a", "a", "a"], ["é", "世", "🎉"], []]


def one_by_one(words, size, n_buckets):
    """Every run of words spelled out and hashed by itself."""
    runs = [" ".join(words[first : first + size]) for first in range(len(words) - size + 1)]
    return [int(hashlib.sha256(run.encode()).hexdigest(), 16) % n_buckets for run in runs]


def by_text(hashed):
    return [piece.tolist() for piece in np.split(hashed.buckets, hashed.starts[1:])]


def test_an_ngram_falls_into_the_same_bucket_in_every_process():
    assert buckets_of(["the", "the answer"], 10_000).tolist() == [8288, 6267]  # by sha256sum


# Types of one, two and four bytes, and the largest number of buckets there may be.
@pytest.mark.parametrize("n_buckets", [2, 256, 10_000, 100_000, 2**32])
@pytest.mark.parametrize("texts", [TEXTS, ODD, [[]], []], ids=["rows", "odd", "one empty", "none"])
def test_buckets_are_those_of_runs_hashed_one_by_one(texts, n_buckets):
    for size, hashed in enumerate(hashed_ngrams(texts, n=4, n_buckets=n_buckets), start=1):
        assert hashed.starts.tolist() == list(
            np.cumsum([0, *(max(0, len(words) - size + 1) for words in texts)])[: len(texts)]
        )
        assert by_text(hashed)[: len(texts)] == [one_by_one(words, size, n_buckets) for words in texts]
    assert size == 4


def test_counts_are_those_of_the_released_package():
    package = pytest.importorskip("data_selection.hashed_ngram_dsir")
    for n in (1, 2, 3):
        for row, words in zip(make_rows(20), TEXTS, strict=True):
            found = np.concatenate([hashed.buckets for hashed in hashed_ngrams([words], n=n, n_buckets=500)])
            expected = package.get_ngram_counts(whole_text(row), n=n, num_buckets=500)
            assert np.array_equal(np.bincount(found, minlength=500), expected)
