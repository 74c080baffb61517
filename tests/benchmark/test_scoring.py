from lessexp.benchmark.scoring import measure


def test_figures_of_a_small_store_have_their_keys_and_fit_together():
    results = measure(n_rows=600, proj_dim=64, n_subtasks=3, repeats=1, dtypes=["float16", "int1"])
    assert {"time_over_floor", "time_over_floor_int1", "peak_memory_bytes", "peak_memory_bytes_int1"} <= set(results)
    floor = results["seconds"]["read"]["median"] + results["seconds"]["product"]["median"]
    assert results["time_over_floor"] == results["seconds"]["score"]["median"] / floor
    # 600 rows of 64 values in 16 bits and in one, with two float32 numbers a row and a header a shard.
    assert 600 * 128 < results["bytes_stored"] < 600 * 128 + 600 * 8 + 1000
    assert 600 * 8 < results["bytes_stored_int1"] < 600 * 8 + 600 * 8 + 1000
