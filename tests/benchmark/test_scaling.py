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
    monkeypatch.setattr(scaling, "in_fresh_process", lambda task, *arguments: task(*arguments))
    results = scaling.measure(overrides=overrides, sizes=[12, 24])
    small, large = (results["rows"][size] for size in ("12", "24"))
    for name in ("flops", "bytes_written"):
        assert small[name]["measured"] == pytest.approx(small[name]["forecast"], rel=0.6)
    for which in ("forecast", "measured"):
        assert small["flops"][which] < large["flops"][which] < 2 * small["flops"][which]
    [table] = scaling.tables(results)
    assert table.row_count == 8
    assert next(iter(table.columns[0].cells)).plain == "12 rows, flops"
