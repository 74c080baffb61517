"""``run.py`` in a process of its own, which can be killed, interrupted, starved and deprived of its rights.

The process is forked from the one that tests, which has imported everything: all else is as on the command line.
"""

import ctypes
import os
import resource
import runpy
import signal
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra

import lessexp.pipeline  # noqa: F401  (imported here once, not in every process)
from tests.stages.conftest import SHRUNK

ROOT = Path(__file__).parents[2]
SELECTION = "selector.stages=[warmup,gradients,select]"
_PATIENCE = 600  # seconds, on a machine that is busy; nothing here waits as long as that on its own account


class Program:
    """A run that goes on in another process.

    Args:
        arguments: of the command line.
        output: gets what it prints.
        before: done in the process before anything else.
    """

    def __init__(self, *arguments: str, output: Path, before: Callable[[], object] = lambda: None):
        self.output = output
        self._skip = len(self._all_printed())
        self.exit_code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _be_the_program(arguments, output, before)

    def _all_printed(self) -> str:
        return self.output.read_text(encoding="utf-8") if self.output.exists() else ""

    @property
    def printed(self) -> str:
        """What it has printed so far."""
        return self._all_printed()[self._skip :]

    def send(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def has_ended(self) -> bool:
        """Whether it has ended; a signal's number is its exit code with a minus, as in `subprocess`."""
        if self.exit_code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.exit_code = os.waitstatus_to_exitcode(status) if pid else None
        return self.exit_code is not None

    def wait_for(self, text: str) -> bool:
        """Wait until it has printed a text; False if it ended without."""
        give_up = time.monotonic() + _PATIENCE
        while text not in self.printed:
            if self.has_ended() or time.monotonic() > give_up:
                return text in self.printed
            time.sleep(0.005)
        return True

    def wait(self, seconds: float = _PATIENCE) -> int | None:
        """Wait until it ends, at most so long; its exit code, None if it goes on."""
        give_up = time.monotonic() + seconds
        while not self.has_ended() and time.monotonic() < give_up:
            time.sleep(0.005)
        return self.exit_code

    def kill(self) -> None:
        """Kill it with SIGKILL, if it has not ended."""
        if not self.has_ended():
            self.send(signal.SIGKILL)
            self.wait()


def _be_the_program(arguments: tuple[str, ...], output: Path, before: Callable[[], object]) -> None:
    code: object = 1
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number in (1, 2):
            os.dup2(descriptor, number)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1, closefd=False)
        warnings.resetwarnings()
        warnings.simplefilter("ignore")
        GlobalHydra.instance().clear()
        os.chdir(output.parent)
        # Several threads that load weights at once trip over torch's thread pool, which a fork leaves to be made anew.
        os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"
        before()
        sys.argv = ["run.py", *arguments]
        runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code or 0
        if isinstance(code, str):
            print(code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code if isinstance(code, int) else 1)


class Place:
    """Rows, artifacts and runs in one folder.

    Args:
        folder: holds ``pool.jsonl`` and ``target.jsonl``, and gets all else.
        model_folder: of the tiny model.
    """

    def __init__(self, folder: Path, model_folder: Path):
        self.folder = folder
        self.artifacts = folder / "artifacts"
        self.run_folder = folder / "run"
        self._options = [*SHRUNK, f"model.path={model_folder}", f"cache_dir={folder / 'cache'}"]
        self._options += [f"data.paths=[{folder / 'pool.jsonl'}]", f"target.path={folder / 'target.jsonl'}"]
        self.started: list[Program] = []

    def start(
        self,
        *overrides: str,
        run_folder: Path | None = None,
        artifacts: Path | None = None,
        before: Callable[[], object] = lambda: None,
    ) -> Program:
        """Start a run; what it prints is kept beside the run folder."""
        run_folder = run_folder or self.run_folder
        where = [f"artifacts_dir={artifacts or self.artifacts}", f"hydra.run.dir={run_folder}"]
        output = self.folder / f"{run_folder.name}.txt"
        self.started.append(Program(*self._options, *where, *overrides, output=output, before=before))
        return self.started[-1]

    def start_where_it_likes(self, *overrides: str, before: Callable[[], object]) -> Program:
        """Start a run that names its own folder."""
        output, where = self.folder / "unnamed.txt", f"artifacts_dir={self.artifacts}"
        self.started.append(Program(*self._options, where, *overrides, output=output, before=before))
        return self.started[-1]

    def run(self, *overrides: str, **options) -> Program:
        """Start a run and wait until it ends."""
        program = self.start(*overrides, **options)
        program.wait()
        return program

    def shards(self, kind: str = "pool_gradients", artifacts: Path | None = None) -> list[Path]:
        """The shards there are."""
        return sorted((artifacts or self.artifacts).glob(f"{kind}/*/checkpoint=*/shard-*"))


def selection(run_folder: Path) -> Mapping[str, bytes]:
    """What a run selected and how it scored, as bytes."""
    return {name: (run_folder / name).read_bytes() for name in ("selected.jsonl", "scores.parquet")}


def contents(folder: Path) -> Mapping[str, bytes]:
    """Every file of the artifacts that a number depends on."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix == ".safetensors" or path.name in ("manifest.json", "trainer_state.json")
    }


def sentence_of(program: Program) -> str:
    """The one sentence a run ended with; fails where there is a traceback or a second one."""
    assert "Traceback" not in program.printed, program.printed
    found = [line for line in program.printed.splitlines() if line.startswith(("Error: ", "Stopped by "))]
    assert len(found) == 1 and program.printed.splitlines()[-1] == found[0], program.printed
    return found[0]


def flip_a_byte(path: Path) -> None:
    """Change one bit of the last byte but one."""
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)


def give_up_roots_rights() -> None:
    """Make permissions count for this process: root passes over them by capabilities, which are dropped."""
    header = struct.pack("<Ii", 0x20080522, 0)  # version 3 of the interface; this process
    if ctypes.CDLL(None, use_errno=True).capset(header, bytes(24)):
        raise OSError(ctypes.get_errno(), "capset")


def forbid_writing() -> None:
    """Where no small disk can be mounted: let every further write of this process fail."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
