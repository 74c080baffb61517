import os
import time

import pytest

from lessexp.benchmark.fresh_process import in_fresh_process


def divide(a, b):
    time.sleep(0.5)  # long enough to be seen, however fast a process starts
    return os.getpid(), a / b


def test_a_task_runs_elsewhere_and_is_watched():
    seen = []
    process_id, quotient = in_fresh_process(divide, 6, 3, watch=seen.append)
    assert quotient == 2 and process_id != os.getpid()
    assert set(seen) == {process_id}


def test_a_task_that_fails_fails_here_too():
    with pytest.raises(ChildProcessError, match="a process of the benchmark failed, see above"):
        in_fresh_process(divide, 1, 0)
