from lessexp.data.rows import fingerprint, read_rows
from lessexp.pipeline import run
from lessexp.reports.results import read_results
from tests.conftest import make_rows


def test_results_hold_what_a_table_needs(compose_config, tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    run(compose_config("data.counts={sums:12,words:13}"), folder)
    results = read_results(folder)
    assert (results["selector"], results["model"], results["task"], results["seed"]) == ("less", "hf", "toy", 0)
    assert list(results["stages"]) == ["warmup", "gradients", "select", "finetune", "evaluate"]
    assert all(stage["seconds"] >= 0 and stage["peak_memory_bytes"] > 1e8 for stage in results["stages"].values())
    assert set(results["stages"]["gradients"]["artifacts"]) == {"pool_gradients", "target_gradients"}
    assert results["stages"]["gradients"]["flops"] > results["stages"]["warmup"]["flops"] > 0
    assert all(a["bytes"] > 0 for stage in results["stages"].values() for a in stage["artifacts"].values())
    assert results["held_out"] is False
    assert results["device"] == "cpu"
    assert results["data"]["target"] == fingerprint(make_rows(5, prefix="target", target=True))
    assert set(results["data"]) == {"usable pool", "target", "test rows"}
    assert results["pool"]["found"] == {"sums": 12, "words": 12}
    assert results["pool"]["differences"] == {"words": {"expected": 13, "found": 12}}
    assert results["versions"]["torch"]
    assert set(results["metrics"]["answer_nll"]) == {"base", "tuned", "change"}
    shown = capsys.readouterr().out
    assert "sums (wanted)" in shown
    assert "the pool holds 12 rows of 'words', 13 are expected" in shown
    assert "answer_nll, mean of subtasks" in shown
    assert f"{results['metrics']['answer_nll']['tuned']['mean']:.3f}" in shown
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and "less for toy, hf, seed 0" in page
    assert "This selector reads no checkpoints." not in page
    assert read_rows([folder / "target.jsonl"], is_target=True) == make_rows(5, prefix="target", target=True)
