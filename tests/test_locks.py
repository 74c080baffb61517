import multiprocessing
import time

import pytest

from lessexp.locks import taking_turns


def hold(path, entered, leave):
    with taking_turns(path, on_waiting=lambda: None):
        entered.set()
        leave.wait()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_second_says_once_that_it_waits_and_enters_when_the_first_has_left(tmp_path):
    context = multiprocessing.get_context("fork")
    entered, leave, waits = context.Event(), context.Event(), []
    first = context.Process(target=hold, args=(tmp_path / "lock", entered, leave))
    first.start()
    entered.wait()

    def note():
        waits.append(first.is_alive())
        leave.set()

    with taking_turns(tmp_path / "lock", on_waiting=note):
        assert waits == [True]
    first.join()
    with taking_turns(tmp_path / "lock", on_waiting=pytest.fail):
        pass


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path):
    context = multiprocessing.get_context("fork")
    entered = context.Event()
    first = context.Process(target=hold, args=(tmp_path / "lock", entered, context.Event()))
    first.start()
    entered.wait()
    first.kill()
    first.join()
    started = time.monotonic()
    with taking_turns(tmp_path / "lock", on_waiting=pytest.fail):
        assert time.monotonic() - started < 60
