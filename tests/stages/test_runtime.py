from lessexp.processes import Team
from tests.stages.test_shelf import runtime_of


def test_on_another_device_all_else_stays(tmp_path):
    team = Team(rank=1, size=3)
    here = runtime_of(tmp_path, team)
    there = here.on("cuda:1")
    assert (here.device, there.device, there.engine.team) == ("cpu", "cuda:1", team)
    assert there.on("cpu") == here
