import signal

import pytest

from lessexp.interruption import Stopped
from lessexp.preemption import requeue


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """Make a program of that name, which does what a shell script says; gives the file of what it was asked."""

    def make(script):
        program = tmp_path / "scontrol"
        program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n{script}\n')
        program.chmod(0o755)
        return tmp_path / "asked"

    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("SLURM_JOB_ID", "1234")
    return make


def test_a_job_that_loses_its_machine_is_put_back(scontrol, capsys):
    asked = scontrol("exit 0")
    requeue(Stopped(signal.SIGUSR1))
    assert asked.read_text() == "requeue 1234\n"
    assert capsys.readouterr().err == "job 1234 is put back into the queue\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_job_that_someone_stops_is_not(scontrol, capsys, number):
    asked = scontrol("exit 0")
    requeue(Stopped(number))
    assert not asked.exists() and capsys.readouterr().err == ""


def test_without_a_job_nothing_is_asked(scontrol, monkeypatch, capsys):
    asked = scontrol("exit 0")
    monkeypatch.delenv("SLURM_JOB_ID")
    requeue(Stopped(signal.SIGUSR1))
    assert not asked.exists() and capsys.readouterr().err == ""


def test_what_slurm_refuses_is_said(scontrol, capsys):
    scontrol("echo 'Job is not requeueable' >&2; exit 1")
    requeue(Stopped(signal.SIGUSR1))
    said = "job 1234 could not be put back into the queue: Job is not requeueable; submit it again\n"
    assert capsys.readouterr().err == said


def test_a_machine_without_slurms_programs_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "1234")
    requeue(Stopped(signal.SIGUSR1))
    assert "No such file or directory: 'scontrol'; submit it again" in capsys.readouterr().err
