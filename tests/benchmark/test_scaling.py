import pytest

from lessexp.benchmark import scaling
from lessexp.data.rows import write_rows
from tests.conftest import make_rows
from tests.stages.conftest import SHRUNK


@pytest.fixture
def overrides(tmp_path, model_folder):
    write_rows(tmp_path / "pool.jsonl", make_rows(24))
    write_rows(tmp_path / "target.jsonl", make_rows(5, prefix="target", target=True))
    files = [f"data.paths=[{tmp_path / 'pool.jsonl'}]", f"target.path={tmp_path / 'target.jsonl'}"]
    return [*SHRUNK, *files, f"model.path={model_folder}"]


def test_each_size_is_forecast_and_run(overrides, monkeypatch):
    monkeypatch.setattr(scaling, "in_fresh_process", scaling.run_and_compare)
    results = scaling.measure(overrides=overrides, sizes=[12, 24])
    small, large = (results["rows"][size] for size in ("12", "24"))
    for name in ("flops", "bytes_written"):
        assert small[name]["measured"] == pytest.approx(small[name]["forecast"], rel=0.6)
    for which in ("forecast", "measured"):
        assert small["flops"][which] < large["flops"][which] < 2 * small["flops"][which]
    [table] = scaling.tables(results)
    assert table.row_count == 8
    assert next(iter(table.columns[0].cells)).plain == "12 rows, flops"


@pytest.mark.slow
def test_memory_is_that_of_a_process_of_its_own(overrides, tmp_path):
    (tmp_path / "place").mkdir()
    figures = scaling.in_fresh_process(overrides, tmp_path / "place")
    assert figures["memory_bytes"]["measured"] > 1e8
    (tmp_path / "wrong").mkdir()
    with pytest.raises(ChildProcessError, match="the run failed"):
        scaling.in_fresh_process([*overrides, "fraction=7"], tmp_path / "wrong")
