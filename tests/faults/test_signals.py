"""SIGINT and SIGTERM: the first finishes the shard and stops, the second stops now; training stops at once."""

import os
import signal
import time

import pytest

from lessexp.gradients.memory import Batches
from lessexp.training.module import InstructionTuning
from tests.faults.program import SELECTION, contents, selection, sentence_of


def slow_from_call(number: int, owner: type, name: str, seconds: float):
    """What makes a run's process say, from the call so numbered on, that a method begins, and makes it last longer."""

    def patch():
        method, calls = getattr(owner, name), []

        def slow(*arguments, **options):
            calls.append(name)
            if len(calls) >= number:
                print(f"<{name} {len(calls)}>", flush=True)
                time.sleep(seconds)
            return method(*arguments, **options)

        setattr(owner, name, slow)

    return patch


def all_goes_on(place, undisturbed):
    again = place.run(SELECTION)
    assert again.exit_code == 0, again.printed
    assert selection(place.run_folder) == selection(undisturbed.run_folder)
    assert contents(place.artifacts) == contents(undisturbed.artifacts)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_once_the_shard_is_finished_and_a_resumed_run_goes_on(place, undisturbed, number):
    # The target's shards are the first two that are computed.
    program = place.start(SELECTION, before=slow_from_call(4, Batches, "compute", 1.0))
    assert program.wait_for("<compute 4>"), program.printed
    program.send(number)
    assert program.wait() == 128 + number, program.printed
    assert "finishing this shard, then stopping; once more stops now" in program.printed
    assert sentence_of(program).startswith(f"Stopped by {number.name}; the same command goes on")
    assert program.printed.count("<compute") == 1 and len(place.shards()) == 2
    all_goes_on(place, undisturbed)


@pytest.mark.slow
def test_a_job_that_loses_its_machine_finishes_the_shard_and_queues_again(place, undisturbed):
    slurm = place.folder / "bin" / "scontrol"
    slurm.parent.mkdir()
    slurm.write_text(f'#!/bin/sh\necho "$@" > {place.folder}/asked\n')
    slurm.chmod(0o755)
    slow = slow_from_call(4, Batches, "compute", 1.0)

    def in_a_job():
        os.environ |= {"PATH": f"{slurm.parent}:{os.environ['PATH']}", "SLURM_JOB_ID": "1234"}
        slow()

    program = place.start(SELECTION, before=in_a_job)
    assert program.wait_for("<compute 4>"), program.printed
    program.send(signal.SIGUSR1)
    assert program.wait() == 128 + signal.SIGUSR1, program.printed
    assert program.printed.splitlines()[-1] == "job 1234 is put back into the queue"
    assert (place.folder / "asked").read_text() == "requeue 1234\n"
    assert len(place.shards()) == 2
    all_goes_on(place, undisturbed)


def test_twice_stops_now(place):
    program = place.start(SELECTION, before=slow_from_call(4, Batches, "compute", 3600))
    assert program.wait_for("<compute 4>"), program.printed
    program.send(signal.SIGINT)
    assert program.wait_for("finishing this shard"), program.printed
    assert not program.has_ended()
    program.send(signal.SIGINT)
    assert program.wait() == 130, program.printed
    assert sentence_of(program).startswith("Stopped by SIGINT")
    assert len(place.shards()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_training_stops_at_once_and_goes_on_after_the_last_whole_epoch(place, undisturbed, number):
    # Twelve rows, four in a step: the fifth step is in the second epoch.
    program = place.start(SELECTION, before=slow_from_call(5, InstructionTuning, "on_train_batch_start", 3600))
    assert program.wait_for("<on_train_batch_start 5>"), program.printed
    program.send(number)
    assert program.wait() == 128 + number, program.printed
    assert sentence_of(program).startswith(f"Stopped by {number.name}")
    assert [folder.name for folder in place.artifacts.glob("warmup/*/epoch=*")] == ["epoch=1"]
    all_goes_on(place, undisturbed)
