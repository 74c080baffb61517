"""BM25: rows that share rare words with the target.

The ranking function of Robertson and Zaragoza (2009, "The Probabilistic Relevance Framework") as the package ``bm25s``
(arXiv:2407.03618) computes it; its variants follow Kamphuis et al. (ECIR 2020). The LESS paper (arXiv:2402.04333) has
BM25 as a baseline and says little more than that word frequencies rank the rows. Chosen here:

- a document is the text of all messages of a pool row, a query that of a target row, prompts and answers alike;
- a row's score for a subtask is the mean over the subtask's target rows, as LESS takes the mean of influences;
- a word that occurs twice in a query counts twice, without saturation (no k3), as in Lucene;
- no stop words: lists exist for few of the languages a target may have, idf already gives common words next to no
  weight, and words such as "which" or "not" tell kinds of questions apart;
- words are those of `baselines.words`, without stemming unless a language is given.
"""

import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain

import bm25s
import numpy as np
import torch
from jaxtyping import Float64
from rich.progress import track

from baselines.words import whole_text
from lessexp.data.arrow_sequence import ids_of
from lessexp.data.rows import Row, subtask_names
from lessexp.errors import UserError
from lessexp.selection.base import Scores

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG, which Hydra's log would show

METHODS = ("lucene", "robertson", "atire", "bm25l", "bm25+")


class BM25Error(UserError, ValueError):
    """A setting that BM25 does not have."""


def _stemmer(language: str | None) -> Callable[[str], str]:
    """What reduces a word to its stem: a Snowball algorithm, or without a language nothing.

    Raises:
        BM25Error: there is no such algorithm, or PyStemmer is not installed.
    """
    if language is None:
        return str
    try:
        import Stemmer  # compiled, and only this option needs it
    except ImportError as error:
        raise BM25Error(
            f"selector.scorer.stemmer={language} needs the package PyStemmer: pip install PyStemmer"
        ) from error
    if language not in Stemmer.algorithms():
        known = ", ".join(Stemmer.algorithms())
        raise BM25Error(f"selector.scorer.stemmer={language} is unknown; it must be null or one of {known}")
    return cache(Stemmer.Stemmer(language).stemWord)


def mean_scores(index: bm25s.BM25, queries: Sequence[Sequence[int]]) -> Float64[np.ndarray, " n_documents"]:
    """Mean BM25 score of every document over the queries.

    BM25 is a sum over the words of a query, so the words of all queries are scored together and each only once.

    Args:
        index: of the documents.
        queries: word numbers; a word that is in no document has none.
    """
    words_by_count: dict[int, list[int]] = {}
    for word, count in Counter(chain.from_iterable(queries)).items():
        words_by_count.setdefault(count, []).append(word)
    total = np.zeros(index.scores["num_docs"])
    for count, word_numbers in words_by_count.items():
        total += count * index.get_scores_from_ids(word_numbers).astype(np.float64)
    return total / len(queries)


class BM25Selector:
    """BM25 of pool rows against the rows of each subtask.

    Args:
        k1: saturation of a word's frequency in a document; near 0 only its presence counts.
        b: how far long documents are marked down, from 0 (not) to 1 (in proportion).
        delta: what a word's presence alone is worth, for ``bm25l`` and ``bm25+``; the others ignore it.
        method: variant, one of `METHODS`.
        stemmer: language of a Snowball stemmer, or None.
        split: words of a text.
        memory_map_from: pool size from which scores are read from a temporary file in place of memory; the index
            is still built in memory.

    Raises:
        BM25Error: a setting is out of its range, or the stemmer cannot be had.
    """

    def __init__(
        self,
        *,
        k1: float,
        b: float,
        delta: float,
        method: str,
        stemmer: str | None,
        split: Callable[[str], list[str]],
        memory_map_from: int,
    ):
        if method not in METHODS:
            raise BM25Error(f"selector.scorer.method={method} is unknown; it must be one of {', '.join(METHODS)}")
        if k1 <= 0 or not 0 <= b <= 1:
            raise BM25Error(f"selector.scorer needs k1 above 0 and b from 0 to 1, got k1={k1} and b={b}")
        self.variant = dict(k1=k1, b=b, delta=delta, method=method)
        self.stem = _stemmer(stemmer)
        self.split = split
        self.memory_map_from = memory_map_from

    def score(self, pool: Sequence[Row], target: Sequence[Row]) -> Scores:
        """Mean BM25 of each pool row over each subtask's target rows; rows that share no word with them get 0."""
        quiet = not sys.stdout.isatty()
        numbers = {"": 0}  # the package needs one word at least; no text has this one
        documents = [
            [numbers.setdefault(self.stem(word), len(numbers)) for word in self.split(whole_text(row))]
            for row in track(pool, "BM25: words of the pool", transient=True, disable=quiet)
        ]
        subtasks = subtask_names(target)
        by_subtask = np.zeros((len(pool), len(subtasks)), dtype=np.float32)
        if any(documents):  # otherwise their mean length is 0, and lengths relative to it mean nothing
            with tempfile.TemporaryDirectory(prefix="bm25-") as folder:
                index = bm25s.BM25(**self.variant)
                index.index((documents, numbers), show_progress=not quiet)
                del documents
                if len(pool) >= self.memory_map_from:
                    index.save(folder, show_progress=False)
                    index = bm25s.BM25.load(folder, mmap=True, load_vocab=False)
                for column, subtask in enumerate(subtasks):
                    rows = [row for row in target if row.subtask == subtask]
                    by_subtask[:, column] = mean_scores(index, [self._query(row, numbers) for row in rows])
                del index  # closes the files
        return Scores(ids_of(pool), subtasks, torch.from_numpy(by_subtask))

    def _query(self, row: Row, numbers: dict[str, int]) -> list[int]:
        stems = map(self.stem, self.split(whole_text(row)))
        return [numbers[stem] for stem in stems if stem in numbers]
