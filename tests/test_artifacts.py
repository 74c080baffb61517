import multiprocessing
import os
import re
import signal
import time

import pytest

from lessexp.artifacts import LibraryVersionError, build_once, identity_in, library_versions


def fail(folder):
    (folder / "half").write_text("done so far")
    raise RuntimeError("stopped")


def never(folder):
    pytest.fail("a complete artifact was built again")


def build(folder, builder, fields=None):
    said = []
    artifact = build_once(folder, fields or {"seed": 0}, builder, announce=said.append)
    return artifact, said


def test_an_artifact_is_built_once_then_reused_with_a_word_on_what_it_cost(tmp_path):
    folder = tmp_path / "warmup" / "3f2a"

    def builder(folder):
        time.sleep(0.02)
        (folder / "weights").write_text("1")
        return {"n_rows": 7}

    built, said_when_built = build(folder, builder, {"seed": 0, "data": "abc"})
    assert (built.folder, built.key, built.reused, built.record) == (folder, "3f2a", False, {"n_rows": 7})
    assert built.seconds >= 0.02 and said_when_built == []
    assert identity_in(folder) == {"seed": 0, "data": "abc"}

    reused, (sentence,) = build(folder, never)
    assert (reused.reused, reused.record, reused.seconds) == (True, {"n_rows": 7}, built.seconds)
    assert "reusing" in sentence and str(folder) in sentence and f"{built.seconds:.0f} s" in sentence


def test_a_builder_that_fails_leaves_no_complete_mark_and_the_next_goes_on_with_its_folder(tmp_path):
    folder = tmp_path / "key"
    with pytest.raises(RuntimeError, match="stopped"):
        build(folder, fail)
    assert not (folder / "COMPLETE").exists()
    resumed, said = build(folder, lambda folder: {"found": (folder / "half").read_text()})
    assert not resumed.reused and resumed.record == {"found": "done so far"} and said == []
    assert build(folder, never)[0].reused


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"seconds": "9"}', '{"seconds": NaN}', '{"seconds": -1}'])
def test_a_damaged_note_of_the_time_spent_stops_nothing(tmp_path, text):
    with pytest.raises(RuntimeError, match="stopped"):
        build(tmp_path / "key", fail)
    (tmp_path / "key" / "spent.json").write_text(text)
    artifact, _ = build(tmp_path / "key", lambda folder: {})
    assert 0 <= artifact.seconds < 60


def test_a_record_that_is_no_json_leaves_the_artifact_incomplete(tmp_path):
    with pytest.raises(TypeError):
        build(tmp_path / "key", lambda folder: {"n_rows": object()})
    assert not (tmp_path / "key" / "COMPLETE").exists()


def test_another_librarys_version_is_said_of_a_finished_artifact_and_never_goes_on_with_a_half_built_one(
    tmp_path, monkeypatch
):
    folder = tmp_path / "key"
    with pytest.raises(RuntimeError, match="stopped"):
        build(folder, fail)
    now = library_versions()
    monkeypatch.setattr("lessexp.artifacts.library_versions", lambda: now | {"torch": "9.0"})
    with pytest.raises(
        LibraryVersionError, match=rf"half-built with torch {re.escape(now['torch'])} \(9.0 is installed"
    ):
        build(folder, never)
    assert (folder / "half").exists()
    monkeypatch.undo()
    build(folder, lambda folder: {})
    assert build(folder, never)[1] == [f"reusing {folder} (built in 0 s)"]
    monkeypatch.setattr("lessexp.artifacts.library_versions", lambda: now | {"torch": "9.0"})
    assert f"built in 0 s with torch {now['torch']} (9.0 is installed))" in build(folder, never)[1][0]


def build_until_the_other_waits(folder, results):
    """Runs in a process of its own; the builder ends only after the other process said that it waits."""
    waiting = folder.parent / "waiting"

    def builder(folder):
        with (folder / "built").open("a") as file:
            file.write("x")
        for _ in range(1000):
            if waiting.exists():
                return {}
            time.sleep(0.01)
        raise TimeoutError("the other process never waited")

    def announce(sentence):
        if sentence.startswith("waiting"):
            waiting.touch()

    results.put(build_once(folder, {}, builder, announce=announce).reused)


def test_of_two_processes_at_once_one_builds_and_the_other_waits_and_reuses(tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    processes = [
        context.Process(target=build_until_the_other_waits, args=(tmp_path / "key", results)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert sorted(results.get() for _ in processes) == [False, True]
    assert (tmp_path / "key" / "built").read_text() == "x"


def build_slowly(folder, meeting, results):
    def builder(folder):
        with (folder / "built").open("a") as file:
            file.write("x")
        time.sleep(0.3)
        return {}

    meeting.wait()
    results.put(build_once(folder, {}, builder, announce=lambda sentence: None).reused)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_of_eight_processes_at_once_one_builds_and_seven_reuse(tmp_path):
    context = multiprocessing.get_context("fork")
    results, meeting = context.SimpleQueue(), context.Barrier(8)
    processes = [context.Process(target=build_slowly, args=(tmp_path / "key", meeting, results)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8
    assert sorted(results.get() for _ in processes) == [False] + [True] * 7
    assert (tmp_path / "key" / "built").read_text() == "x"


def build_and_be_killed(folder):
    def builder(folder):
        (folder / "half").write_text("done so far")
        os.kill(os.getpid(), signal.SIGKILL)

    build_once(folder, {}, builder, announce=lambda sentence: None)


def test_the_lock_of_a_dead_process_keeps_nobody_waiting(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=build_and_be_killed, args=(tmp_path / "key",))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (tmp_path / "key.lock").exists()
    resumed, said = build(tmp_path / "key", lambda folder: {"found": (folder / "half").read_text()})
    assert said == [] and resumed.record == {"found": "done so far"}


def test_what_failed_is_told_even_where_the_time_it_took_cannot_be_written(tmp_path, monkeypatch):
    def refuse(path, record):
        if path.name == "spent.json":
            raise OSError("full")

    monkeypatch.setattr("lessexp.artifacts.write_json", refuse)
    with pytest.raises(RuntimeError, match="stopped"):
        build(tmp_path / "key", fail)
