import pytest

from lessexp.benchmark import rounding
from lessexp.benchmark.rounding import BenchmarkRunError
from lessexp.data.rows import write_rows
from tests.conftest import make_rows
from tests.stages.conftest import SHRUNK


@pytest.mark.slow  # four runs of processes of their own
def test_the_same_again_is_the_same_and_other_batches_are_nearly_so(model_folder, tmp_path, monkeypatch):
    write_rows(tmp_path / "pool.jsonl", make_rows(24))
    write_rows(tmp_path / "target.jsonl", make_rows(4, prefix="target", target=True))
    places = [f"data.path={tmp_path / 'pool.jsonl'}", f"target.path={tmp_path / 'target.jsonl'}"]
    variants = {name: rounding.VARIANTS[name] for name in ("the same again", "half the batches' tokens")}
    monkeypatch.setattr(rounding, "VARIANTS", variants)
    settings = [*SHRUNK, *places, f"model.path={model_folder}"]
    results = rounding.measure(overrides=settings, dtypes=["float32"])
    same, halved = (results["figures"]["float32"][name] for name in variants)
    assert same == {"adapter": 0, "score": 0, "spearman": pytest.approx(1), "selected": 1}
    assert halved["adapter"] == 0 and halved["score"] < 1e-3  # rounding, magnified by Adam's root
    [table] = rounding.tables(results)
    assert table.row_count == 2


def test_a_run_that_fails_says_why(tmp_path):
    with pytest.raises(BenchmarkRunError, match=r"failed: Error: .*nosuch"):
        rounding.measure(overrides=["nosuch=1"], dtypes=["float32"])
