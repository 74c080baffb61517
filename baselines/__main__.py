"""Time a selector that needs no model on rows made up for the purpose."""

import argparse
import resource
import sys
import time
from collections.abc import Sequence

import numpy as np
import psutil

from baselines.dsir import DSIRSelector
from baselines.words import words_and_punctuation
from lessexp.data.rows import Row

_VOCABULARY = 50_000
_TARGET_ROWS = 64


def made_up_rows(n: int, *, mean_words: int, seed: int, subtask: str | None = None) -> list[Row]:
    """Rows of words whose frequencies follow Zipf's law and whose numbers a log-normal distribution."""
    rng = np.random.default_rng(seed)
    ends = np.cumsum(rng.integers(2, 11, size=_VOCABULARY))
    letters = "".join(rng.choice(list("etaoinshrdlucmfwypvbgk"), size=ends[-1]))
    vocabulary = np.array([letters[start:end] for start, end in zip([0, *ends], ends, strict=False)], dtype=object)
    vocabulary[rng.random(_VOCABULARY) < 0.1] += ","
    frequency = 1 / np.arange(1, _VOCABULARY + 1)
    cumulative = np.cumsum(frequency / frequency.sum())
    lengths = np.maximum(2, rng.lognormal(np.log(mean_words) - 0.5**2 / 2, 0.5, size=n).astype(int))
    rows = []
    for index, length in enumerate(lengths):
        chosen = vocabulary[np.searchsorted(cumulative[:-1], rng.random(length))]
        messages = (("user", " ".join(chosen[: length // 2])), ("assistant", " ".join(chosen[length // 2 :])))
        rows.append(Row("made up", f"{seed}-{index}", messages, task=subtask, subtask=subtask))
    return rows


def peak_memory() -> int:
    """Most resident memory this process has had [bytes]."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def main(arguments: Sequence[str] | None = None) -> None:
    """Make rows, score them, print seconds and memory."""
    parser = argparse.ArgumentParser(prog="python -m baselines", description=__doc__)
    parser.add_argument("selector", choices=["dsir"])
    parser.add_argument("--rows", type=int, default=270_000, help="of the pool")
    parser.add_argument("--mean-words", type=int, default=150, help="of a row")
    options = parser.parse_args(arguments)
    pool = made_up_rows(options.rows, mean_words=options.mean_words, seed=0)
    target = made_up_rows(_TARGET_ROWS, mean_words=options.mean_words, seed=1, subtask="made up")
    selector = DSIRSelector(n=2, n_buckets=10_000, smoothing=1e-8, temperature=1.0, split=words_and_punctuation, seed=0)
    before = psutil.Process().memory_info().rss
    start = time.perf_counter()
    selector.score(pool, target)
    seconds = time.perf_counter() - start
    n_words = sum(content.count(" ") + 1 for row in pool for _, content in row.messages)
    print(
        f"{options.selector}: {len(pool):,} rows of {n_words / len(pool):.0f} words on average in {seconds:.1f} s; "
        f"memory {before / 1e9:.2f} GB before, {peak_memory() / 1e9:.2f} GB at its peak"
    )


if __name__ == "__main__":
    main()
