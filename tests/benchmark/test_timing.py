import time

import pytest

from lessexp.benchmark.timing import peak_memory_bytes, time_in_turns


def test_alternatives_take_turns_after_a_run_to_warm_up():
    calls = []
    timings = time_in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3)
    assert calls == ["a", "b"] * 4
    assert set(timings) == {"a", "b"}


def test_the_first_run_does_not_count_and_the_median_lies_between_the_extremes():
    pauses = iter([0.2, 0.03, 0.01, 0.02])
    timing = time_in_turns({"a": lambda: time.sleep(next(pauses))}, repeats=3)["a"]
    assert 0.01 <= timing.fastest <= timing.median <= timing.slowest < 0.2


def allocate(megabytes):
    held = b"x" * (megabytes << 20)  # every page is written
    time.sleep(0.2)
    del held


def fail():
    raise SystemExit(3)


def test_memory_is_that_of_a_process_of_its_own():
    small, large = peak_memory_bytes(allocate, 1), peak_memory_bytes(allocate, 301)
    assert large - small == pytest.approx(300 << 20, rel=0.1)


def test_a_process_that_fails_is_an_error():
    with pytest.raises(ChildProcessError, match="a process of the benchmark failed"):
        peak_memory_bytes(fail)
