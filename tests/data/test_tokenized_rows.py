import os
from dataclasses import replace
from functools import partial

import pyarrow as pa
import pytest

from lessexp.data import arrow_rows, tokenized_rows
from lessexp.data.arrow_sequence import ArrowSequence, ArrowStorage
from lessexp.data.rows import Row
from lessexp.data.tokenize import lengths_of, sort_by_length, tokenize_row, tokenize_rows
from lessexp.data.tokenized_rows import (
    WorkerError,
    decode_tokenized,
    tokenized_batches,
    tokenized_in_memory,
    without_dropped,
)
from tests.conftest import make_rows


@pytest.fixture
def rows():
    """Some of them too long, and some ids that no sorting of ASCII places."""
    made = make_rows(30)
    for place in (0, 11, 29):
        made[place] = Row("long", f"long-{place}", (("user", "word " * 99), ("assistant", "4")))
    made[4] = replace(made[9], example_id="日本")
    made[5] = replace(made[9], example_id="ÿ𝄞")
    return made


@pytest.fixture
def settings(tokenizer, chat_format):
    return dict(tokenizer=tokenizer, chat_format=chat_format, max_length=80)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("num_proc", [1, 2])
def test_processes_give_what_tokenising_one_by_one_gives_in_the_same_order(rows, settings, num_proc, monkeypatch):
    monkeypatch.setattr(arrow_rows, "ROWS_PER_BATCH", 4)
    monkeypatch.setattr(tokenized_rows, "_BATCHES_IN_FLIGHT", 1)
    batches = tokenized_batches(rows, partial(tokenize_row, **settings), num_proc=num_proc)
    found = without_dropped(ArrowSequence(ArrowStorage(pa.Table.from_batches(batches), decode_tokenized)))
    kept, dropped = tokenize_rows(rows, **settings)
    assert (list(found[0]), found[1]) == (kept, dropped)
    assert len(dropped) == 3


def test_lengths_hashes_and_order_by_length_are_those_of_decoded_rows(rows, settings):
    stored, _ = without_dropped(tokenized_in_memory(rows, partial(tokenize_row, **settings)))
    kept, _ = tokenize_rows(rows, **settings)
    assert lengths_of(stored).tolist() == lengths_of(kept).tolist() == [len(row.input_ids) for row in kept]
    assert stored.column("content_hash").to_pylist() == [row.content_hash for row in kept]
    assert list(sort_by_length(stored)) == sort_by_length(kept)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_that_dies_is_reported_with_the_setting_to_lower(rows):
    with pytest.raises(WorkerError, match=r"preparation\.num_proc"):
        list(tokenized_batches(rows, lambda row: os._exit(9), num_proc=2))
