import multiprocessing
import os
import signal
import threading
import time

import pytest

from lessexp.interruption import Stopped, finishing_pieces, stopping_at_once

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_stops_at_once_with_the_exit_code_of_shells(number):
    with pytest.raises(Stopped) as stopped, stopping_at_once():
        os.kill(os.getpid(), number)
        pytest.fail("it went on")
    assert stopped.value.exit_code == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 138}[number]
    assert str(stopped.value).startswith(f"{number.name}; the same command goes on after")


def test_it_is_no_error_that_a_handler_of_errors_could_swallow():
    assert not issubclass(Stopped, Exception)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_waits_for_a_good_moment(number, capfd):
    done = []
    with pytest.raises(Stopped), finishing_pieces("shard") as stop_if_asked:
        for piece in range(3):
            if piece == 1:
                os.kill(os.getpid(), number)
            done.append(piece)
            stop_if_asked()
    assert done == [0, 1]
    assert capfd.readouterr().err == "\nfinishing this shard, then stopping; once more stops now\n"


def test_the_second_signal_does_not_wait():
    with pytest.raises(Stopped) as stopped, finishing_pieces("shard"):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("it went on")
    assert stopped.value.exit_code == 130


def test_a_signal_after_the_last_good_moment_is_not_lost():
    with pytest.raises(Stopped), finishing_pieces("shard"):
        os.kill(os.getpid(), signal.SIGINT)


def test_an_error_is_not_hidden_by_a_signal_that_came_before_it():
    with pytest.raises(ValueError, match="worse"), finishing_pieces("shard"):
        os.kill(os.getpid(), signal.SIGINT)
        raise ValueError("worse")


def test_handlers_are_put_back_and_nest():
    before = [signal.getsignal(number) for number in SIGNALS]
    with stopping_at_once():
        with finishing_pieces("shard"):
            pass
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_signal_that_a_launcher_handles_is_left_to_it():
    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: seen.append(number))
    try:
        with stopping_at_once(), finishing_pieces("shard"):
            os.kill(os.getpid(), signal.SIGTERM)
        assert seen == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_may_use_it_and_change_nothing():
    found = []

    def task():
        with stopping_at_once(), finishing_pieces("shard") as stop_if_asked:
            stop_if_asked()
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=task)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]


def wait_long():
    time.sleep(60)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("context", [stopping_at_once, lambda: finishing_pieces("shard")])
def test_a_worker_forked_meanwhile_ends_when_it_is_told_to(context, capfd):
    with context():
        worker = multiprocessing.get_context("fork").Process(target=wait_long)
        worker.start()
        time.sleep(0.1)
        worker.terminate()
        worker.join(20)
    assert worker.exitcode == -signal.SIGTERM
    assert capfd.readouterr().err == ""
