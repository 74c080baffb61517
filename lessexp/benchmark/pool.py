"""How fast a large pool is made ready for gradients, and in how much memory."""

import contextlib
import itertools
import json
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from lessexp.benchmark.fresh_process import in_fresh_process
from lessexp.benchmark.subject import smollm2_folder
from lessexp.data.chat_format import TuluFormat
from lessexp.data.prepare import Preparation, Reader
from lessexp.data.rows import Row, write_rows
from lessexp.data.source import RowFiles
from lessexp.data.tokenize import lengths_of, sort_by_length
from lessexp.models.causal_lm import load_tokenizer
from lessexp.stages.cost import bytes_in
from lessexp.stages.preparation import usable_cores
from lessexp.stages.progress import progress_bar, say

_SPREAD_OF_LENGTHS = 0.7  # of their logarithm; a twentieth of rows is longer than two and a half means
_ROWS_AT_ONCE = 1000


def made_up_rows(n: int, *, words: list[str], mean_words: int, seed: int) -> Iterator[Row]:
    """Rows whose numbers of words are log-normal, and whose words are the rarer the later they stand in the list."""
    rng = np.random.default_rng(seed)
    vocabulary = np.array(words, dtype=object)
    cumulative = np.cumsum(1 / np.arange(10, len(words) + 10))  # Zipf's law, flattened where it is steepest
    cumulative /= cumulative[-1]
    for start in range(0, n, _ROWS_AT_ONCE):
        mean_of_log = np.log(mean_words) - _SPREAD_OF_LENGTHS**2 / 2
        lengths = rng.lognormal(mean_of_log, _SPREAD_OF_LENGTHS, size=min(_ROWS_AT_ONCE, n - start)).astype(int) + 2
        drawn = vocabulary[np.searchsorted(cumulative[:-1], rng.random(lengths.sum()))]
        ends = lengths.cumsum()
        for index, (first, last) in enumerate(itertools.pairwise([0, *ends.tolist()])):
            middle = first + max(1, (last - first) // 3)
            messages = (("user", " ".join(drawn[first:middle])), ("assistant", " ".join(drawn[middle:last])))
            yield Row("made up", f"made-up-{start + index}", messages)


def common_words(tokenizer_json: str) -> list[str]:
    """Whole words that are one token, in the order of the vocabulary, which is about that of their frequency."""
    vocabulary = json.loads(tokenizer_json)["model"]["vocab"]
    ordered = sorted(vocabulary, key=vocabulary.__getitem__)
    return [token[1:] for token in ordered if re.fullmatch("Ġ[A-Za-z]{2,}", token)]


def prepare(model_folder: Path, pool: Path, cache: Path, num_proc: int, max_length: int) -> dict[str, Any]:
    """Make a pool ready, from its file to the order in which gradients take its rows; seconds and counts."""
    tokenizer = load_tokenizer(model_folder)
    preparation = Preparation(cache, 0, num_proc, announce=say, progress=progress_bar)
    started = time.perf_counter()
    rows, _ = preparation.rows(RowFiles([pool]))
    read = time.perf_counter()
    kept, _ = preparation.tokenized(rows, Reader(tokenizer, TuluFormat(tokenizer), max_length))
    tokenised = time.perf_counter()
    in_order = sort_by_length(kept)
    # What the manifest of a store is made of.
    n_ready = min(len(in_order.ids), len(in_order.column("content_hash").to_pylist()))
    done = time.perf_counter()
    seconds = {"read": read - started, "tokenise": tokenised - read, "sort": done - tokenised, "all": done - started}
    return {"n_ready": n_ready, "n_tokens": int(lengths_of(kept).sum()), "seconds": seconds}


def _memory_of_tree(process: psutil.Process) -> tuple[int, int]:
    """Resident memory of a process and its children: with shared pages counted once, and counted in each."""
    shared_once = summed = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            info = member.memory_full_info()
        except psutil.NoSuchProcess:  # it ended meanwhile
            continue
        shared_once += getattr(info, "pss", info.rss)  # known on Linux only
        summed += info.rss
    return shared_once, summed


def prepared_in_fresh_process(*arguments) -> dict[str, Any]:
    """What `prepare` gives, and the largest memory of its process and that one's children, as `_memory_of_tree`."""
    peaks = (0, 0)

    def watch(process_id: int) -> None:
        nonlocal peaks
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            peaks = tuple(map(max, peaks, _memory_of_tree(psutil.Process(process_id))))

    results = in_fresh_process(prepare, *arguments, watch=watch)
    return results | {"peak_memory_bytes": peaks[0], "peak_summed_resident_bytes": peaks[1]}


def measure(*, n_rows: int, mean_words: int, max_length: int, num_proc: int | None) -> dict:
    """All figures; a second process takes the files that the first one wrote."""
    folder = smollm2_folder()
    words = common_words(load_tokenizer(folder).backend_tokenizer.to_str())
    num_proc = num_proc or usable_cores()
    with tempfile.TemporaryDirectory() as place:
        pool, cache = Path(place) / "pool.jsonl", Path(place) / "cache"
        write_rows(pool, made_up_rows(n_rows, words=words, mean_words=mean_words, seed=0))
        first, second = (prepared_in_fresh_process(folder, pool, cache, num_proc, max_length) for _ in range(2))
        sizes = {"bytes_read": pool.stat().st_size, "bytes_written": bytes_in(cache)}
    return {
        "n_rows": n_rows,
        "n_ready": first["n_ready"],
        "mean_tokens": first["n_tokens"] / first["n_ready"],
        "num_proc": num_proc,
        **sizes,
        "seconds": first["seconds"],
        "seconds_reused": second["seconds"]["all"],
        "rows_per_second": n_rows / first["seconds"]["all"],
        "peak_memory_bytes": first["peak_memory_bytes"],
        "peak_summed_resident_bytes": first["peak_summed_resident_bytes"],
    }
