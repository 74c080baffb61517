"""The same run started several times at once: one process builds, the others wait, and nothing is corrupted."""

import pytest

from tests.faults.program import SELECTION, contents, selection


@pytest.mark.parametrize("n_processes", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_one_builds_and_the_others_wait_and_reuse(place, undisturbed, n_processes):
    folders = [place.folder / f"run-{number}" for number in range(n_processes)]
    programs = [place.start(SELECTION, run_folder=folder) for folder in folders]
    for program, folder in zip(programs, folders, strict=True):
        assert program.wait() == 0, program.printed
        assert selection(folder) == selection(undisturbed.run_folder)
    assert contents(place.artifacts) == contents(undisturbed.artifacts)
    for kind in ("warmup", "target_gradients", "pool_gradients"):
        assert sum(f"{kind}: reusing" in program.printed for program in programs) == n_processes - 1
    assert sum("waiting for another run that is building" in program.printed for program in programs) >= 1


@pytest.mark.slow
def test_in_one_folder_they_take_turns_and_the_second_finds_it_finished(place):
    programs = [place.start("selector=random", "resume=true") for _ in range(2)]
    assert [program.wait() for program in programs] == [0, 0], programs[0].printed
    printed = programs[0].output.read_text()
    assert printed.count(f"waiting for another process that works in {place.run_folder}") == 1
    assert printed.count("is finished and stays as it is") == 1
