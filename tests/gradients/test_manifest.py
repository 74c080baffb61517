from pathlib import Path

import pytest

from lessexp.gradients.manifest import DatastoreError, Manifest, check_same


def manifest(n, rows_per_shard=4):
    return Manifest([f"row-{i}" for i in range(n)], [1], 8, "float16", rows_per_shard, {})


@pytest.mark.parametrize(("n", "shards"), [(1, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_shards_hold_every_row_once_and_in_order(n, shards):
    made = manifest(n)
    assert made.n_shards == shards
    held = [row for shard in range(shards) for row in made.shard_rows(shard)]
    assert held == list(range(n))
    items = [item for shard in range(shards) for item in made.of_shard(shard, made.example_ids)]
    assert items == made.example_ids


def test_equal_records_pass_and_the_first_difference_is_named_with_both_values():
    check_same(Path("store"), found={"a": 1, "b": {"c": 2}}, wanted={"b": {"c": 2}, "a": 1})
    with pytest.raises(DatastoreError, match=r"'b' is \{.c.: 2\} in the store, \{.c.: 3\} was asked for"):
        check_same(Path("store"), found={"a": 1, "b": {"c": 2}}, wanted={"a": 1, "b": {"c": 3}})


def test_a_missing_field_is_a_difference_and_long_values_are_cut_short():
    with pytest.raises(DatastoreError, match=r"'ids' is null in the store, \[.{99}… was asked for"):
        check_same(Path("store"), found={}, wanted={"ids": list(range(1000))})
