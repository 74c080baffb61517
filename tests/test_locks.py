import multiprocessing
import time

import pytest

from lessexp.locks import LockedError, LockFileError, held_now, taking_turns


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


def test_a_lock_that_nobody_may_wait_for_is_refused_while_another_holds_it(tmp_path):
    context = multiprocessing.get_context("spawn")
    entered, leave = context.Event(), context.Event()
    first = context.Process(target=hold, args=(tmp_path / "lock", entered, leave))
    first.start()
    entered.wait()
    with pytest.raises(LockedError, match="/lock: another process holds it"), held_now(tmp_path / "lock"):
        pass
    leave.set()
    first.join()
    with held_now(tmp_path / "lock"):
        pass


@pytest.mark.parametrize("make", [lambda lock: lock.mkdir(), lambda lock: lock.symlink_to(lock.with_name("elsewhere"))])
def test_a_folder_or_a_link_in_the_place_of_a_lock_is_named(tmp_path, make):
    make(tmp_path / "lock")
    named = pytest.raises(LockFileError, match=r"/lock: a lock must be a file, this is a folder or a link; delete it")
    with named, taking_turns(tmp_path / "lock", on_waiting=pytest.fail):
        pass
    assert not (tmp_path / "elsewhere").exists()
