import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from lessexp.processes import ALONE, Team
from lessexp.stages.runtime import Runtime
from lessexp.stages.shelf import Shelf
from lessexp.training.trainer import Engine
from lessexp.wholeness import read_complete
from tests.teams import run_team


@dataclass(frozen=True)
class Note:
    kind: ClassVar[str] = "warmup"
    version: ClassVar[int] = 1
    by_all: ClassVar[bool] = True

    seed: int
    builder: Callable[[Path], dict[str, Any]] = field(compare=False)

    def build(self, folder: Path, runtime: Any) -> dict[str, Any]:
        return self.builder(folder)


class Other(Note):
    kind: ClassVar[str] = "proxy"


def runtime_of(root: Path, team: Team = ALONE) -> Runtime:
    return Runtime(Shelf(root), Engine("cpu", team), (), root, 1, 64, 64, 7)


def test_an_artifact_is_built_once_and_found_by_all_that_determines_it(tmp_path, capsys):
    runtime, calls = runtime_of(tmp_path), []

    def build(folder):
        calls.append(folder)
        return {"flops": 3}

    note, shelf = Note(0, build), runtime.shelf
    assert shelf.lacks(note)
    first, second = (runtime.get(note) for _ in range(2))
    assert calls == [first.folder] == [shelf.folder(note)]
    assert (first.reused, second.reused, second.record) == (False, True, {"flops": 3})
    assert not shelf.lacks(note)
    assert shelf.lacks(Note(1, build)) and shelf.lacks(Other(0, build))
    assert capsys.readouterr().out.startswith(f"warmup: reusing {first.folder}")


def build_as(team: Team, root):
    def build(folder):
        (folder / f"part-{team.rank}").write_text("")
        return {"n": team.size}

    built, again = (runtime_of(root, team).get(Note(0, build)) for _ in range(2))
    (root / f"seen-{team.rank}.json").write_text(json.dumps([built.reused, again.reused, again.record["n"]]))


def test_a_team_builds_together_and_reuses_together(tmp_path):
    assert run_team(3, build_as, tmp_path) == [0, 0, 0]
    folder = Shelf(tmp_path).folder(Note(0, dict))
    assert {path.name for path in folder.glob("part-*")} == {"part-0", "part-1", "part-2"}
    assert [json.loads((tmp_path / f"seen-{rank}.json").read_text()) for rank in range(3)] == [[False, True, 3]] * 3


def build_slowly_as(team: Team, root):
    def build(folder):
        time.sleep(0.3 * team.rank)
        (folder / f"part-{team.rank}").write_text("")
        return {}

    runtime_of(root, team).get(Note(0, build))


def test_what_the_slowest_of_a_team_wrote_is_vouched_for_too(tmp_path):
    assert run_team(3, build_slowly_as, tmp_path) == [0, 0, 0]
    hashes = read_complete(Shelf(tmp_path).folder(Note(0, dict)))["sha256"]
    assert {"part-0", "part-1", "part-2"} <= hashes.keys()
