"""What tests say of a copy of the code that has a fault in it."""

import itertools
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.mutations.mutants import ROOT, Mutant

COPIED = ("lessexp", "baselines", "conf", "sweeps", "tests", "pyproject.toml", "README.md", "run.py")
TESTS_FAILED, TESTS_PASSED = 1, 0  # exit codes of pytest; any other means that it could not run them
SECONDS = 600  # a mutant that loops is killed by then
# Importing these takes longer than most tests, so all runs are forks of one process that has done it.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["torch", "transformers", "peft", "pytorch_lightning", "hydra", "datasets", "hypothesis"])


def copy_of_tree(folder: Path) -> None:
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)


def _run_pytest(folder: Path, tests: Sequence[str], output: Path) -> None:
    """Run the tests of a copy in this process, a fork of one that has imported the large libraries alone."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", *COPIED)]:
        del sys.modules[name]
    sys.path[:] = [str(folder), *(place for place in sys.path if Path(place).resolve() != ROOT)]
    os.environ["PYTHONPATH"] = str(folder)  # for programs that a test starts: an installed copy has no fault
    os.chdir(folder)
    with output.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    # What is imported already is not rewritten, and need not be.
    options = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    code = pytest.ExitCode.INTERNAL_ERROR
    try:
        code = pytest.main([*options, *tests])
    finally:
        sys.stdout.flush()
        os._exit(code)


def pytest_in(folder: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Exit code and output of the tests; a run that takes too long has failed."""
    with tempfile.NamedTemporaryFile() as output:
        process = _FORKS.Process(target=_run_pytest, args=(folder, tests, Path(output.name)))
        process.start()
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            return TESTS_FAILED, f"took longer than {SECONDS} s"
        return process.exitcode, Path(output.name).read_text()


_seconds = itertools.count(int(time.time()))


def _write(file: Path, text: str) -> None:
    """Write code with a time of its own: Python takes bytecode for fresh if size and second are those of the code."""
    file.write_text(text)
    second = next(_seconds)
    os.utime(file, (second, second))


def verdict_on(mutant: Mutant, folder: Path) -> str:
    file = folder / mutant.file
    original = file.read_text()
    try:
        _write(file, mutant.applied(original))
    except ValueError:
        return "snippet not found"
    try:
        code, output = pytest_in(folder, mutant.tests)
    finally:
        _write(file, original)
    if code not in (TESTS_FAILED, TESTS_PASSED):
        print(output)
        return "not run"
    return "killed" if code == TESTS_FAILED else "survived"
