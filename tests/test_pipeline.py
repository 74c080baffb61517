from dataclasses import replace

import pytest

from lessexp.data.rows import RowError, write_rows
from lessexp.errors import ExperimentError
from lessexp.pipeline import STAGES, run
from lessexp.reports.results import read_results
from tests.conftest import make_rows
from tests.stages.conftest import CONF, compose_config  # noqa: F401  (a fixture)


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
    assert {kind.name for kind in (tmp_path / "artifacts").iterdir()} == {"tuned_adapter", "base_answers"}


def test_a_proxy_selects_through_the_same_stages(compose_config, tmp_path):  # noqa: F811
    settings = ["selector=iprox", "proxy.rank_multiple=4", "proxy.probes.n_rows=6"]
    results = run_in(tmp_path / "run", compose_config(*settings))
    assert results["selection"]["n_selected"] == 6
    assert results["stages"]["proxy"]["artifacts"]["proxy"]["n_replaced"] == 14


def test_a_pool_of_copies_trains_on_the_one_row_that_is_left(compose_config, tmp_path):  # noqa: F811
    write_rows(tmp_path / "copies.jsonl", [replace(row, messages=make_rows(1)[0].messages) for row in make_rows(9)])
    given = [f"data.paths=[{tmp_path / 'copies.jsonl'}]", "dedup=exact", "fraction=1"]
    selection = run_in(tmp_path / "run", compose_config(*given))["selection"]
    assert (selection["n_selected"], selection["n_copies"]) == (1, 8)


def test_nothing_is_written_when_the_settings_cannot_work(compose_config, tmp_path):  # noqa: F811
    with pytest.raises(ExperimentError):
        run_in(tmp_path / "run", compose_config("fraction=2"))
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
    assert not (tmp_path / "artifacts").exists()


def test_every_selector_names_known_stages(compose_config):  # noqa: F811
    selectors = sorted(file.stem for file in (CONF / "selector").glob("*.yaml"))
    assert len(selectors) > 3
    for selector in selectors:
        assert set(compose_config(f"selector={selector}").selector.stages) <= set(STAGES)


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
