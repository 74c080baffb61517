from collections.abc import Iterator
from pathlib import Path

import pytest

from lessexp.data.rows import write_rows
from tests.conftest import make_rows
from tests.faults.program import SELECTION, Place


def _place(folder: Path, model_folder: Path) -> Place:
    write_rows(folder / "pool.jsonl", make_rows(24))
    write_rows(folder / "target.jsonl", make_rows(5, prefix="target", target=True))
    return Place(folder, model_folder)


@pytest.fixture(scope="session")
def undisturbed(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A selection that nothing disturbed. Not to be changed."""
    place = _place(tmp_path_factory.mktemp("undisturbed"), model_folder)
    program = place.run(SELECTION)
    assert program.exit_code == 0, program.printed
    return place


@pytest.fixture
def place(tmp_path: Path, model_folder: Path) -> Iterator[Place]:
    """Rows, and no artifact yet; what still runs at the end of a test is killed."""
    place = _place(tmp_path, model_folder)
    yield place
    for program in place.started:
        program.kill()
