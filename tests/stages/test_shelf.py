import json
import time

from lessexp.processes import Team
from lessexp.stages.shelf import Shelf
from lessexp.wholeness import read_complete
from tests.teams import run_team


def test_an_artifact_is_built_once_and_found_by_all_that_determines_it(tmp_path, capsys):
    shelf, calls = Shelf(tmp_path), []

    def build(folder):
        calls.append(folder)
        return {"flops": 3}

    assert shelf.lacks("warmup", {"seed": 0})
    first, second = (shelf.build("warmup", {"seed": 0}, build) for _ in range(2))
    assert calls == [first.folder] == [shelf.folder("warmup", {"seed": 0})]
    assert (first.reused, second.reused, second.record) == (False, True, {"flops": 3})
    assert not shelf.lacks("warmup", {"seed": 0})
    assert shelf.lacks("warmup", {"seed": 1})
    assert shelf.lacks("proxy", {"seed": 0})
    assert capsys.readouterr().out.startswith(f"warmup: reusing {first.folder}")


def build_as(team: Team, root):
    def build(folder):
        (folder / f"part-{team.rank}").write_text("")
        return {"n": team.size}

    built = Shelf(root).build_by_all("warmup", {"seed": 0}, build, team=team)
    again = Shelf(root).build_by_all("warmup", {"seed": 0}, build, team=team)
    (root / f"seen-{team.rank}.json").write_text(json.dumps([built.reused, again.reused, again.record["n"]]))


def test_a_team_builds_together_and_reuses_together(tmp_path):
    assert run_team(3, build_as, tmp_path) == [0, 0, 0]
    folder = Shelf(tmp_path).folder("warmup", {"seed": 0})
    assert {path.name for path in folder.glob("part-*")} == {"part-0", "part-1", "part-2"}
    assert [json.loads((tmp_path / f"seen-{rank}.json").read_text()) for rank in range(3)] == [[False, True, 3]] * 3


def build_slowly_as(team: Team, root):
    def build(folder):
        time.sleep(0.3 * team.rank)
        (folder / f"part-{team.rank}").write_text("")
        return {}

    Shelf(root).build_by_all("warmup", {"seed": 0}, build, team=team)


def test_what_the_slowest_of_a_team_wrote_is_vouched_for_too(tmp_path):
    assert run_team(3, build_slowly_as, tmp_path) == [0, 0, 0]
    hashes = read_complete(Shelf(tmp_path).folder("warmup", {"seed": 0}))["sha256"]
    assert {"part-0", "part-1", "part-2"} <= hashes.keys()
