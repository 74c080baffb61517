"""DSIR: importance resampling with hashed n-grams (Xie et al. 2023, arXiv:2302.03169).

Target and pool are each modelled as a bag of hashed n-grams. A row's log importance weight is the sum over its
n-grams of ``log p_target − log p_pool``, and adding Gumbel noise to it before taking the top k draws k rows without
replacement, in proportion to their weights. Where the paper leaves something open, the released package
``data-selection`` decides: n-grams are hashed by SHA-256 into the same buckets, probabilities are relative
frequencies, and a small constant is added to both before the logarithm. Chosen here:

- a text is that of all messages of a row, prompts and answers alike; its words are those of `baselines.words` with
  punctuation, which on ASCII text are the package's (``wordpunct``);
- each subtask has its own target distribution, as with the package's ``separate_targets``; with one subtask there is
  one, as in the paper;
- a row's noise is the same for all its subtasks, so that taking the maximum over subtasks does not favour luck;
- the pool's distribution is fitted on the whole pool (the package stops at 100,000 n-grams a bucket);
- no row is left out for being short (the package by default drops those under 100 words, as many instruction rows
  are). Weights are sums, not means, as in the paper: long rows get extreme weights, and a row without words gets 0.
"""

import sys
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float64, Int
from rich.progress import track
from torch import Tensor

from baselines.hashed_ngrams import HashedNgrams, hashed_ngrams
from baselines.words import whole_text
from lessexp.data.arrow_sequence import ids_of
from lessexp.data.rows import Row, subtask_names
from lessexp.data.seeds import uniform_of
from lessexp.errors import UserError
from lessexp.selection.base import Scores

_ROWS_AT_ONCE = 8192  # a common n-gram is hashed once for all of them; some 100 MB


class TemperatureError(UserError, ValueError):
    """A temperature below zero."""


def log_ratio(
    target_counts: Int[Tensor, "n_buckets n_subtask"], pool_counts: Int[Tensor, " n_buckets"], *, smoothing: float
) -> Float64[Tensor, "n_buckets n_subtask"]:
    """``log p_target − log p_pool`` of every bucket; ``smoothing`` is added to each probability."""
    p_target = target_counts.double() / target_counts.sum(dim=0).clamp(min=1)
    p_pool = pool_counts.double() / pool_counts.sum().clamp(min=1)
    return (p_target + smoothing).log() - (p_pool + smoothing).log()[:, None]


def log_weights(
    buckets: Int[Tensor, " n_ngrams"],
    starts: Int[Tensor, " n_rows"],
    ratio: Float64[Tensor, "n_buckets n_subtask"],
) -> Float64[Tensor, "n_rows n_subtask"]:
    """Log importance weights: sums of ``ratio`` over the n-grams of each row.

    Args:
        buckets: of the n-grams of all rows, one row after the other.
        starts: where in ``buckets`` each row begins.
        ratio: see `log_ratio`.
    """
    return torch.nn.functional.embedding_bag(buckets, ratio, starts, mode="sum")


def gumbel_noise(seed: int, example_ids: Sequence[str]) -> Float64[Tensor, " n"]:
    """One draw from the standard Gumbel distribution for each id."""
    return -(-uniform_of(seed, "gumbel noise of dsir", example_ids).log()).log()


class DSIRSelector:
    """Log importance weights of pool rows, with noise that makes the top k a sample.

    Args:
        n: longest n-grams, in words.
        n_buckets: that n-grams are hashed into.
        smoothing: added to probabilities, so that a bucket without n-grams has a logarithm.
        temperature: of the sample: factor of the Gumbel noise. At 1 rows are drawn in proportion to their weights,
            at 0 those of the highest weight are taken.
        split: words of a text.
        seed: of the noise.

    Raises:
        TemperatureError: the temperature is below zero.
    """

    def __init__(
        self,
        *,
        n: int,
        n_buckets: int,
        smoothing: float,
        temperature: float,
        split: Callable[[str], list[str]],
        seed: int,
    ):
        if temperature < 0:
            raise TemperatureError(f"selector.scorer.temperature must be at least 0, got {temperature}")
        self.n = n
        self.n_buckets = n_buckets
        self.smoothing = smoothing
        self.temperature = temperature
        self.split = split
        self.seed = seed

    def score(self, pool: Sequence[Row], target: Sequence[Row]) -> Scores:
        """Noisy log weights of each row for each subtask. A row equal to a target row need not come first."""
        subtasks = subtask_names(target)
        pool_ngrams = self._hashed(pool)
        target_counts = torch.stack(
            [self._counts(self._hashed([row for row in target if row.subtask == name])) for name in subtasks], dim=1
        )
        ratio = log_ratio(target_counts, self._counts(pool_ngrams), smoothing=self.smoothing)
        weights = torch.cat([self._weights(of_rows, ratio) for of_rows in pool_ngrams])
        example_ids = ids_of(pool)
        noise = self.temperature * gumbel_noise(self.seed, example_ids)
        return Scores(example_ids, subtasks, (weights + noise[:, None]).float())

    def _hashed(self, rows: Sequence[Row]) -> list[list[HashedNgrams]]:
        """N-grams of each size, for some rows at a time."""
        firsts = range(0, len(rows), _ROWS_AT_ONCE)
        hashed = []
        for first in track(firsts, "DSIR: n-grams", transient=True, disable=not sys.stdout.isatty()):
            texts = [self.split(whole_text(row)) for row in rows[first : first + _ROWS_AT_ONCE]]
            hashed.append(list(hashed_ngrams(texts, n=self.n, n_buckets=self.n_buckets)))
        return hashed

    def _counts(self, hashed: Sequence[Sequence[HashedNgrams]]) -> Int[Tensor, " n_buckets"]:
        """How many n-grams of all sizes and rows fall into each bucket."""
        counts = torch.zeros(self.n_buckets, dtype=torch.int64)
        for of_rows in hashed:
            for of_size in of_rows:
                counts += torch.from_numpy(of_size.buckets.astype("int64")).bincount(minlength=self.n_buckets)
        return counts

    def _weights(
        self, of_rows: Sequence[HashedNgrams], ratio: Float64[Tensor, "n_buckets n_subtask"]
    ) -> Float64[Tensor, "n_rows n_subtask"]:
        """Log importance weights of some rows: the sum over sizes."""
        return torch.stack(
            [
                log_weights(torch.from_numpy(of_size.buckets.astype("int64")), torch.from_numpy(of_size.starts), ratio)
                for of_size in of_rows
            ]
        ).sum(dim=0)
