"""A clock that goes back: no duration is negative and no two runs share a folder."""

import json
import time
from datetime import datetime

import hydra.core.utils

from tests.faults.program import SELECTION, selection


class StoppedClock(datetime):
    """It is always noon of the same day."""

    @classmethod
    def now(cls, tz=None):
        return cls(2026, 10, 25, 12, 0, 0)


def test_runs_named_by_the_same_second_get_folders_of_their_own(place):
    def before():
        hydra.core.utils.datetime = StoppedClock

    programs = [place.start_where_it_likes("selector=random", "selector.stages=[select]", before=before) for _ in "ab"]
    assert [program.wait() for program in programs] == [0, 0], programs[0].printed
    folders = [place.folder / "outputs" / "2026-10-25" / name for name in ("12-00-00", "12-00-00-2")]
    assert sorted(place.folder.glob("outputs/*/*")) == folders
    assert all((folder / "selected.jsonl").is_file() and (folder / ".hydra").is_dir() for folder in folders)


def test_durations_do_not_come_from_a_clock_that_may_go_back(place, undisturbed):
    def before():
        started, real = time.time(), time.time
        time.time = lambda: 2 * started - real()  # runs backwards

    done = place.run(SELECTION, before=before)
    assert done.exit_code == 0, done.printed
    records = [*place.run_folder.glob("stages/*.json"), *place.artifacts.glob("*/*/COMPLETE")]
    assert len(records) == 4 + 3
    assert all(json.loads(record.read_text())["seconds"] > 0 for record in records)
    assert selection(place.run_folder) == selection(undisturbed.run_folder)
