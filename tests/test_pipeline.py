import math
from dataclasses import replace

import pyarrow.parquet
import pytest

from lessexp.data.rows import RowError, read_rows, write_rows
from lessexp.errors import ExperimentError
from lessexp.pipeline import run
from lessexp.reports.results import read_results
from lessexp.stages.composition import options
from tests.conftest import build_model, build_tokenizer, make_rows
from tests.stages.conftest import compose_config  # noqa: F401  (a fixture)


def run_in(folder, cfg):
    folder.mkdir()
    run(cfg, folder)
    return read_results(folder)


def test_a_second_identical_run_reuses_warmup_and_gradients_and_selects_the_same(compose_config, tmp_path):  # noqa: F811
    first = run_in(tmp_path / "first", compose_config())
    second = run_in(tmp_path / "second", compose_config())
    for name, stage in second["stages"].items():
        assert all(artifact["reused"] for artifact in stage["artifacts"].values()), name
    assert second["stages"]["gradients"]["flops"] == 0
    assert second["stages"]["gradients"]["artifacts"]["pool_gradients"]["built_in_seconds"] > 0
    subsets = [(tmp_path / name / "selected.jsonl").read_bytes() for name in ("first", "second")]
    assert subsets[0] == subsets[1]
    assert first["metrics"] == second["metrics"]


def test_a_new_target_on_an_old_pool_costs_the_target_alone(compose_config, tmp_path):  # noqa: F811
    run_in(tmp_path / "first", compose_config())
    write_rows(tmp_path / "other.jsonl", make_rows(9, prefix="other", target=True)[5:])
    second = run_in(tmp_path / "second", compose_config(f"target.path={tmp_path / 'other.jsonl'}"))
    artifacts = second["stages"]["gradients"]["artifacts"]
    assert (artifacts["pool_gradients"]["reused"], artifacts["target_gradients"]["reused"]) == (True, False)
    assert second["stages"]["gradients"]["flops"] == artifacts["target_gradients"]["flops"] > 0
    assert second["stages"]["gradients"]["bytes_written"] > 0


@pytest.mark.parametrize("selector", ["random", "full"])
def test_selectors_without_gradients_share_adapter_and_base_answers(compose_config, tmp_path, selector):  # noqa: F811
    results = run_in(tmp_path / "run", compose_config(f"selector={selector}"))
    assert results["selection"]["n_selected"] == (24 if selector == "full" else 6)
    assert {kind.name for kind in (tmp_path / "artifacts").iterdir()} == {
        "tuned_adapter",
        "base_answers",
        "tuned_answers",
    }


def test_a_proxy_selects_through_the_same_stages(compose_config, tmp_path):  # noqa: F811
    settings = ["selector=iprox", "proxy.rank_multiple=4", "proxy.probes.n_rows=6"]
    results = run_in(tmp_path / "run", compose_config(*settings))
    assert results["selection"]["n_selected"] == 6
    assert results["stages"]["proxy"]["artifacts"]["proxy"]["n_replaced"] == 14


def test_a_pool_of_copies_trains_on_the_one_row_that_is_left(compose_config, tmp_path, capsys):  # noqa: F811
    write_rows(tmp_path / "copies.jsonl", [replace(row, messages=make_rows(1)[0].messages) for row in make_rows(9)])
    given = [f"data.paths=[{tmp_path / 'copies.jsonl'}]", "dedup=exact", "fraction=1"]
    ratio = "finetune.training.warmup_ratio"
    selection = run_in(tmp_path / "run", compose_config(*given, f"{ratio}=0"))["selection"]
    assert (selection["n_selected"], selection["n_copies"]) == (1, 8)
    assert "warning: 1 rows are selected, not 9; the others are copies" in capsys.readouterr().out
    settings = [*given, "selector=random", "finetune.training.schedule=linear", f"{ratio}=0.5"]
    with pytest.raises(ExperimentError, match="finetune: its only step is the first of the schedule's rise"):
        run_in(tmp_path / "linear", compose_config(*settings))
    assert not (tmp_path / "linear" / "stages" / "select.json").exists()


def test_nothing_is_written_when_the_settings_cannot_work(compose_config, tmp_path):  # noqa: F811
    with pytest.raises(ExperimentError):
        run_in(tmp_path / "run", compose_config("fraction=2"))
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
    assert not (tmp_path / "artifacts").exists()


# What a selector cannot do without, and what makes it small.
NEEDS = {
    "less_t": ["selection_model=hf", "selection_model.path={other}", "selection_model.dtype=float32"],
    "iprox": ["proxy.rank_multiple=8", "proxy.probes.n_rows=8"],
}


@pytest.mark.parametrize("selector", options("selector"))
def test_every_selector_scores_the_pool_and_selects_the_same_best_rows_again(compose_config, tmp_path, selector):  # noqa: F811
    tokenizer = build_tokenizer()
    build_model(len(tokenizer), seed=1, width=16).save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    given = [one.replace("{other}", str(tmp_path / "other")) for one in NEEDS.get(selector, [])]
    selections = []
    for number in (1, 2):
        artifacts = f"artifacts_dir={tmp_path / f'artifacts-{number}'}"
        cfg = compose_config(f"selector={selector}", "selector.stages=[select]", *given, artifacts)
        run_in(tmp_path / str(number), cfg)
        selections.append([row.example_id for row in read_rows([tmp_path / str(number) / "selected.jsonl"])])
    pool = [row.example_id for row in make_rows(24)]
    assert len(selections[0]) == len(set(selections[0])) == (24 if selector == "full" else 6)
    assert set(selections[0]) <= set(pool)
    assert selections[1] == selections[0]
    scores = pyarrow.parquet.read_table(tmp_path / "1" / "scores.parquet").to_pydict()
    assert scores["example_id"] == pool
    of = dict(zip(pool, scores["score"], strict=True))
    assert all(math.isfinite(score) for score in of.values())
    best = [of[name] for name in selections[0]]
    assert best == sorted(of.values(), reverse=True)[: len(best)]


def test_the_number_of_skipped_rows_is_said_once_before_anything_is_computed(compose_config, tmp_path, capsys):  # noqa: F811
    write_rows(tmp_path / "odd.jsonl", make_rows(24))
    with (tmp_path / "odd.jsonl").open("a") as file:
        file.write("{\n")
    given = ["selector=random", f"data.paths=[{tmp_path / 'odd.jsonl'}]"]
    with pytest.raises(
        RowError, match=r"odd\.jsonl, line 25: not valid JSON.*; data\.on_bad_row=skip leaves such rows out$"
    ):
        run_in(tmp_path / "stopped", compose_config(*given))
    assert not list((tmp_path / "stopped").glob("*.json*"))
    capsys.readouterr()
    run_in(tmp_path / "run", compose_config(*given, "data.on_bad_row=skip"))
    said = capsys.readouterr().out
    assert said.count("1 of 25 rows could not be read and are skipped, see excluded.parquet") == 1
    assert said.index("1 of 25 rows") < said.index("── select")
