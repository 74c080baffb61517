"""Tokenised rows as Arrow columns, and how many processes make them of very many rows."""

import gc
import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pyarrow as pa

from lessexp.data.arrow_rows import blocks_of
from lessexp.data.arrow_sequence import ArrowSequence, ArrowStorage
from lessexp.data.rows import Row
from lessexp.data.tokenize import Dropped, TokenizedRow
from lessexp.errors import UserError

Tokenize = Callable[[Row], TokenizedRow | Dropped]

TOKENIZED_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
        ("labels", pa.list_(pa.int32())),
        ("length", pa.int32()),
        ("content_hash", pa.string()),
        ("dropped", pa.string()),  # why the row cannot be learnt from; then it has no tokens
    ]
)
_BATCHES_IN_FLIGHT = 4  # of each process; bounds memory


class WorkerError(UserError, RuntimeError):
    """A process that ended while it tokenised."""


def encode_tokenized(results: Sequence[TokenizedRow | Dropped]) -> pa.RecordBatch:
    """What tokenising gave, as a record batch of `TOKENIZED_SCHEMA`."""
    kept = [row if isinstance(row, TokenizedRow) else None for row in results]
    columns = [
        [row.example_id for row in results],
        [row.input_ids if row else [] for row in kept],
        [row.labels if row else [] for row in kept],
        [len(row.input_ids) if row else 0 for row in kept],
        [row.content_hash if row else None for row in kept],
        [None if isinstance(row, TokenizedRow) else row.reason for row in results],
    ]
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, TOKENIZED_SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=TOKENIZED_SCHEMA)


def decode_tokenized(batch: pa.RecordBatch) -> list[TokenizedRow]:
    """The rows of a record batch, none of them dropped."""
    columns = (batch.column(name).to_pylist() for name in ("id", "input_ids", "labels"))
    return [TokenizedRow(*fields) for fields in zip(*columns, strict=True)]


def without_dropped(results: ArrowSequence[TokenizedRow]) -> tuple[ArrowSequence[TokenizedRow], list[Dropped]]:
    """The rows that can be learnt from, and the others with their reasons; both in order."""
    is_kept = results.column("dropped").is_null().to_numpy()
    others = results.select(np.flatnonzero(~is_kept))
    reasons = others.column("dropped").to_pylist()
    dropped = [Dropped(*fields) for fields in zip(others.ids, reasons, strict=True)]
    return results.select(np.flatnonzero(is_kept)), dropped


def tokenized_in_memory(rows: Sequence[Row], tokenize: Tokenize) -> ArrowSequence[TokenizedRow]:
    """What tokenising gives of rows that need no file."""
    table = pa.Table.from_batches([encode_tokenized([tokenize(row) for row in rows])])
    return ArrowSequence(ArrowStorage(table, decode_tokenized))


def tokenized_batches(rows: Sequence[Row], tokenize: Tokenize, *, num_proc: int) -> Iterator[pa.RecordBatch]:
    """Tokenise in several processes; the batches come in the order of the rows, whatever the number of processes.

    Args:
        rows: any number.
        tokenize: of one row.
        num_proc: 1 works in this process.

    Raises:
        WorkerError: a process ended, for want of memory say.
    """
    blocks = blocks_of(rows)
    if num_proc == 1:
        yield from (_encoded(tokenize, block) for block in blocks)
        return
    # Forking shares what is loaded, where it is safe; else each process loads the libraries anew.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(num_proc, context, initializer=_start_worker, initargs=(tokenize,)) as executor:
        running: deque[Future[pa.RecordBatch]] = deque()
        try:
            for block in blocks:
                running.append(executor.submit(_in_worker, block))
                if len(running) >= _BATCHES_IN_FLIGHT * num_proc:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        except BrokenProcessPool as error:
            raise WorkerError(
                f"one of {num_proc} tokenising processes ended, perhaps for want of memory; lower preparation.num_proc"
            ) from error
        finally:
            executor.shutdown(cancel_futures=True)


_worker_tokenize: Tokenize  # set once in each process, for a tokenizer takes long to send


def _start_worker(tokenize: Tokenize) -> None:
    global _worker_tokenize
    _worker_tokenize = tokenize
    gc.freeze()  # collecting garbage would write to, and so copy, the memory that a fork shares
    # The threads of the process that was forked do not exist in this one; waiting for them would never end.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _in_worker(block: list[Row]) -> pa.RecordBatch:
    return _encoded(_worker_tokenize, block)


def _encoded(tokenize: Tokenize, block: Sequence[Row]) -> pa.RecordBatch:
    return encode_tokenized([tokenize(row) for row in block])
