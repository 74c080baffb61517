"""kill -9 at any moment: the run goes on, and ends in the same selection, bit for bit."""

import json
import random
import shutil
import time

import pytest

from tests.faults.program import SELECTION, Place, contents, selection


def kill_at(place: Place, stage: str, delay: float, *overrides: str) -> bool:
    """Start a run and kill it some seconds after a stage began; False if it ended before."""
    program = place.start(*overrides, "resume=true")  # a run may be killed when its results are written already
    if not program.wait_for(f"── {stage}"):
        assert program.exit_code == 0, program.printed
        return False
    time.sleep(delay)
    killed = not program.has_ended()
    program.kill()
    return killed


def seconds_of(place: Place) -> dict[str, float]:
    records = (place.run_folder / "stages").glob("*.json")
    return {record.stem: json.loads(record.read_text())["seconds"] for record in records}


def test_a_selection_killed_in_every_stage_ends_as_if_nothing_had_been(place, undisturbed):
    seconds = seconds_of(undisturbed)
    killed = [kill_at(place, stage, 0.2 * seconds[stage], SELECTION) for stage in ("warmup", "gradients")]
    killed += [kill_at(place, "select", 0, SELECTION)]
    assert sum(killed) >= 2  # the machine may be slower or faster than it was
    last = place.run(SELECTION)
    assert last.exit_code == 0, last.printed
    assert selection(place.run_folder) == selection(undisturbed.run_folder)
    assert contents(place.artifacts) == contents(undisturbed.artifacts)


@pytest.mark.slow
def test_thirty_kills_at_random_moments_of_whole_runs_change_no_bit(place):
    whole = place.run(run_folder=place.folder / "whole", artifacts=place.folder / "whole artifacts")
    assert whole.exit_code == 0, whole.printed
    seconds = {
        record.stem: json.loads(record.read_text())["seconds"]
        for record in (place.folder / "whole" / "stages").glob("*.json")
    }
    assert set(seconds) == {"warmup", "gradients", "select", "finetune", "evaluate", "report"}
    moments = random.Random(0)
    kills = dict.fromkeys(seconds, 0)
    while sum(kills.values()) < 30 or min(kills.values()) == 0:
        stage = moments.choice(list(seconds))
        if kill_at(place, stage, moments.random() * seconds[stage]):
            kills[stage] += 1
            if moments.random() < 0.8:
                continue
            assert place.run("resume=true").exit_code == 0
        assert selection(place.run_folder) == selection(place.folder / "whole")
        assert contents(place.run_folder / "adapter") == contents(place.folder / "whole" / "adapter")
        assert contents(place.artifacts) == contents(place.folder / "whole artifacts")
        shutil.rmtree(place.run_folder)
        shutil.rmtree(place.artifacts)


OTHER_STAGES = {
    "representations": ["selector=rds", "selector.stages=[representations,select]"],
    "proxy": [
        *("selector=iprox", "proxy=ipsvd", "proxy.rank_multiple=4", "proxy.probes.n_rows=6", "model.dtype=float32"),
        *("alignment=first_order", "alignment.n_rows=8", "alignment.n_held_out=3", "alignment.settings.epochs=1"),
        "selector.stages=[warmup,proxy,gradients,select]",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", OTHER_STAGES)
def test_kills_in_the_stages_of_other_selectors_change_no_bit(place, stage):
    settings = OTHER_STAGES[stage]
    whole = place.run(*settings, run_folder=place.folder / "whole", artifacts=place.folder / "whole artifacts")
    assert whole.exit_code == 0, whole.printed
    seconds = json.loads((place.folder / "whole" / "stages" / f"{stage}.json").read_text())["seconds"]
    killed = [kill_at(place, stage, share * seconds, *settings) for share in (0.1, 0.3, 0.5, 0.7, 0.9)]
    assert sum(killed) >= 3
    last = place.run(*settings, "resume=true")
    assert last.exit_code == 0, last.printed
    assert selection(place.run_folder) == selection(place.folder / "whole")
    assert contents(place.artifacts) == contents(place.folder / "whole artifacts")
