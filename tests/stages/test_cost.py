import shutil
import threading
import time

import pytest
import torch

from lessexp.stages.cost import bytes_in, forward_flops, full_training_flops, measure, training_flops

LARGE = 200 * 2**20


def test_seconds_are_wall_clock_of_the_block():
    with measure() as cost:
        time.sleep(0.1)
    # The sampler may take one interval more to notice the end.
    assert 0.1 <= cost.seconds < 1


def test_peak_memory_holds_what_was_allocated_and_freed_inside_the_block():
    with measure() as quiet:
        time.sleep(0.1)
    with measure() as busy:
        large = torch.ones(LARGE, dtype=torch.uint8)
        time.sleep(0.2)
        del large
    # Other threads may give back a little meanwhile.
    assert busy.peak_memory_bytes - quiet.peak_memory_bytes > 0.9 * LARGE
    with measure() as after:
        time.sleep(0.1)
    assert busy.peak_memory_bytes - after.peak_memory_bytes > 0.9 * LARGE


def test_a_block_that_fails_is_measured_too():
    with pytest.raises(RuntimeError, match="stopped"), measure() as cost:
        time.sleep(0.05)
        raise RuntimeError("stopped")
    assert cost.seconds >= 0.05 and cost.peak_memory_bytes > 0


def test_bytes_in_counts_the_files_at_every_depth(tmp_path):
    assert bytes_in(tmp_path) == 0
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "deep" / "deeper" / ".b").write_bytes(b"1234567")
    assert bytes_in(tmp_path) == 12


def test_bytes_in_survives_files_and_folders_that_come_and_go(tmp_path):
    stop = threading.Event()

    def come_and_go():
        while not stop.is_set():
            (tmp_path / "passing").mkdir()
            (tmp_path / "passing" / "a").write_bytes(b"123")
            shutil.rmtree(tmp_path / "passing")

    (tmp_path / "stays").write_bytes(b"12345")
    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        assert {bytes_in(tmp_path) for _ in range(2000)} <= {5, 8}
    finally:
        stop.set()
        thread.join()


def test_flops_are_two_a_parameter_and_token_forward_and_as_many_back_through_frozen_weights():
    assert forward_flops(1000, 7) == 14_000
    assert training_flops(1000, 7) == 28_000


def test_weights_that_are_trained_take_two_more():
    assert full_training_flops(1000, 7) == 42_000
