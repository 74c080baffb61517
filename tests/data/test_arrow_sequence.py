import random

import datasets
import numpy as np
import pyarrow as pa
import pytest

from lessexp.data import arrow_sequence
from lessexp.data.arrow_sequence import ArrowSequence, ArrowStorage, ids_of, open_mapped, write_batches

SCHEMA = pa.schema([("id", pa.string()), ("length", pa.int32())])
NAMES = [f"row {i}" for i in range(23)]


def batches(size=5):
    for start in range(0, len(NAMES), size):
        names = NAMES[start : start + size]
        yield pa.RecordBatch.from_pydict({"id": names, "length": [len(name) for name in names]}, schema=SCHEMA)


def upper(batch):
    return [name.upper() for name in batch.column("id").to_pylist()]


def refuse(batch):
    raise AssertionError("decoded")


EXPECTED = [name.upper() for name in NAMES]


@pytest.fixture(params=["in memory", "mapped"])
def sequence(request, tmp_path, monkeypatch):
    monkeypatch.setattr(arrow_sequence, "ROWS_PER_BATCH", 7)
    monkeypatch.setattr(arrow_sequence, "_TOUCHED_UNTIL_RELEASE", 3)
    if request.param == "in memory":
        return ArrowSequence(ArrowStorage(pa.Table.from_batches(batches()), upper))
    write_batches(tmp_path / "rows.arrow", SCHEMA, batches())
    return open_mapped(tmp_path / "rows.arrow", upper)


def test_items_slices_and_iteration_are_those_of_the_list(sequence):
    assert len(sequence) == len(EXPECTED)
    assert list(sequence) == EXPECTED
    assert [sequence[i] for i in range(-23, 23)] == [EXPECTED[i] for i in range(-23, 23)]
    for cut in (slice(3, 12), slice(None, None, -3), slice(20, 99), slice(-4, None), slice(5, 5)):
        assert list(sequence[cut]) == EXPECTED[cut]
    for beyond in (23, -24):
        with pytest.raises(IndexError):
            sequence[beyond]


def test_a_selection_of_a_selection_is_that_of_the_list(sequence):
    draw = random.Random(0)
    first = draw.sample(range(23), 17)
    second = draw.sample(range(17), 9)
    found = sequence.select(first).select(np.array(second))
    expected = [first[i] for i in second]
    assert list(found) == [EXPECTED[i] for i in expected]
    assert found.ids == ids_of(found) == [NAMES[i] for i in expected]
    assert found.column("length").to_pylist() == [len(NAMES[i]) for i in expected]
    assert list(sequence.select([])) == sequence.select([]).ids == []


def test_ids_and_columns_are_read_without_decoding_an_item():
    sequence = ArrowSequence(ArrowStorage(pa.Table.from_batches(batches()), refuse))
    assert sequence.ids == NAMES
    assert sequence[4:9].column("length").to_pylist() == [5, 5, 5, 5, 5]
    with pytest.raises(AssertionError, match="decoded"):
        sequence[0]


def test_a_file_is_one_that_the_datasets_library_opens(tmp_path):
    write_batches(tmp_path / "rows.arrow", SCHEMA, batches())
    assert datasets.Dataset.from_file(str(tmp_path / "rows.arrow"))["id"][:] == NAMES


def test_a_file_that_cannot_be_finished_does_not_appear(tmp_path):
    def broken():
        yield from batches()
        raise RuntimeError("the rows broke")

    with pytest.raises(RuntimeError, match="broke"):
        write_batches(tmp_path / "rows.arrow", SCHEMA, broken())
    assert list(tmp_path.iterdir()) == []
