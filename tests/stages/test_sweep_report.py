import pytest
from omegaconf import OmegaConf

from lessexp.stages.run_folder import error_file
from lessexp.stages.sweep_report import SweepReport
from tests.reports.written_run import write_run


def test_a_sweep_ends_with_its_table_its_page_and_its_folder(tmp_path, capsys):
    for seed in (0, 1):
        write_run(tmp_path / str(seed), seed=seed)
    SweepReport().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    printed = capsys.readouterr().out
    assert "1.000 ± 0.000" in printed
    assert printed.splitlines()[-1] == str(tmp_path)
    assert "<table" in (tmp_path / "report.html").read_text()


def report(folder):
    SweepReport().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}}}))


def test_an_unfinished_job_leaves_no_report_but_a_sentence(tmp_path, capsys):
    (write_run(tmp_path / "0") / "results.json").unlink()
    report(tmp_path)
    assert "no report: 1 of 1 runs" in capsys.readouterr().out
    assert not (tmp_path / "report.html").exists()


def test_jobs_that_failed_are_left_out_of_the_table_and_named_with_their_reasons(tmp_path, capsys):
    write_run(tmp_path / "seed=0", seed=0)
    (write_run(tmp_path / "seed=1", seed=1) / "results.json").unlink()
    error_file(tmp_path / "seed=1").write_text("pool.jsonl, line 3: not valid JSON\n")
    with pytest.raises(SystemExit) as caught:
        report(tmp_path)
    assert caught.value.code == "Error: 1 job of this sweep failed:\n  seed=1: pool.jsonl, line 3: not valid JSON"
    printed = capsys.readouterr().out
    assert "1 run did not finish and is left out" in printed
    assert printed.splitlines()[-1] == str(tmp_path)
    assert (tmp_path / "report.html").is_file()
