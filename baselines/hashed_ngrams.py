"""Runs of words, hashed into buckets, many texts at a time (the features of DSIR, arXiv:2302.03169).

Every n-gram that occurs in the texts is spelled and hashed once, however often it occurs: words become numbers, an
n-gram the pair of its first n-1 words and its last, and only the pairs that differ are written out.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import Int, Shaped


@dataclass(frozen=True)
class HashedNgrams:
    """Buckets of the n-grams of one size.

    Attributes:
        buckets: of the n-grams of all texts, one text after the other, in the smallest type that holds them.
        starts: where in ``buckets`` each text begins.
    """

    buckets: Shaped[np.ndarray, " n_ngrams"]
    starts: Int[np.ndarray, " n_texts"]


def buckets_of(ngrams: Sequence[str], n_buckets: int) -> Shaped[np.ndarray, " n"]:
    """The bucket each n-gram falls into: its SHA-256 as a number, modulo the buckets (as in ``data-selection``).

    Args:
        ngrams: words joined by spaces.
        n_buckets: at most 2³².
    """
    digests = b"".join(hashlib.sha256(ngram.encode()).digest() for ngram in ngrams)
    remainder = np.zeros(len(ngrams), dtype=np.uint64)
    for part in np.frombuffer(digests, dtype=">u4").reshape(-1, 8).T:
        remainder = ((remainder << np.uint64(32)) + part) % np.uint64(n_buckets)
    return remainder.astype(np.min_scalar_type(n_buckets - 1))


def hashed_ngrams(texts: Sequence[Sequence[str]], *, n: int, n_buckets: int) -> Iterator[HashedNgrams]:
    """Buckets of all runs of 1, then 2, ... then ``n`` words.

    Args:
        texts: words of each.
        n: longest runs.
        n_buckets: that they are hashed into.
    """
    lengths = np.array([len(words) for words in texts], dtype=np.int64)
    numbered: dict[str, int] = defaultdict()
    numbered.default_factory = numbered.__len__
    word = np.fromiter(map(numbered.__getitem__, chain.from_iterable(texts)), np.int64, count=lengths.sum())
    vocabulary = list(numbered)
    end_of_text = np.repeat(lengths.cumsum(), lengths)
    place, ngram, spelled = np.arange(len(word)), word, vocabulary
    for size in range(1, n + 1):
        if size > 1:
            goes_on = place + size <= end_of_text[place]
            place = place[goes_on]
            pairs, ngram = np.unique(ngram[goes_on] * len(vocabulary) + word[place + size - 1], return_inverse=True)
            first, last = np.divmod(pairs, max(1, len(vocabulary)))
            spelled = [f"{spelled[f]} {vocabulary[w]}" for f, w in zip(first.tolist(), last.tolist(), strict=True)]
        n_of_text = np.maximum(lengths - size + 1, 0)
        yield HashedNgrams(buckets_of(spelled, n_buckets)[ngram], n_of_text.cumsum() - n_of_text)
