import csv

import pytest

from lessexp.reports.__main__ import main
from lessexp.reports.runs import read_sweep
from tests.reports.conftest import results


def test_the_table_is_printed_whole_on_a_narrow_terminal(sweep, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert main([str(sweep)]) is None
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert "random" in printed and "0.500 ± 0.100" in printed and "kB written" in printed
    assert "Mean ± sample standard deviation" in printed


def test_files_are_written_beside_the_table(sweep, tmp_path, capsys):
    files = {name: tmp_path / "out" / f"table.{name}" for name in ("markdown", "latex", "csv", "json")}
    arguments = [str(sweep), *(text for name, file in files.items() for text in (f"--{name}", str(file)))]
    assert main([*arguments, "--figures", str(tmp_path / "figures")]) is None
    assert "random" in capsys.readouterr().out
    assert "| random | 3 |" in files["markdown"].read_text()
    assert r"\begin{tabular}" in files["latex"].read_text()
    with files["csv"].open(newline="") as file:
        assert {line["setting"] for line in csv.DictReader(file)} == {"random", "less"}
    assert read_sweep([files["json"]]) == read_sweep([sweep])
    assert sorted(path.suffix for path in (tmp_path / "figures").iterdir()) == [".pdf", ".pdf", ".png", ".png"]


@pytest.mark.parametrize(
    ("option", "start"), [("--markdown", "|  | n |"), ("--latex", "% Needs"), ("--csv", "setting,")]
)
def test_a_format_without_a_file_is_all_that_is_printed(sweep, capsys, option, start):
    assert main([str(sweep), option]) is None
    assert capsys.readouterr().out.startswith(start)


def test_a_damaged_run_is_named_under_the_table_of_the_others(sweep, capsys):
    (sweep / "2" / "results.json").write_text("")
    assert main([str(sweep), "--markdown"]) is None
    printed = capsys.readouterr().out
    assert f"A damaged run is left out: {sweep / '2' / 'results.json'} is damaged; copy it again" in printed
    assert "| random | 2 |" in printed


def test_unfinished_and_mixed_runs_end_in_a_sentence_and_are_shown_on_request(sweep, write_run, capsys):
    write_run(sweep / "13", ["selector=bm25"], None)
    write_run(sweep / "14", ["selector=full"], results("full", git_commit="b" * 40))
    assert "did not finish" in main([str(sweep)])
    assert "different code" in main([str(sweep), "--drop-unfinished"])
    assert capsys.readouterr().out == ""
    assert main([str(sweep), "--drop-unfinished", "--allow-mixed", "versions", "--markdown"]) is None
    printed = capsys.readouterr().out
    assert "different code: lessexp 1 at aaaaaaaaaaaa (6 runs), lessexp 1 at bbbbbbbbbbbb (1 run).\n" in printed
    assert "1 run did not finish and is left out.\n" in printed


def test_a_folder_may_begin_with_home(sweep, monkeypatch):
    monkeypatch.setenv("HOME", str(sweep.parent))
    assert main([f"~/{sweep.name}", "--markdown", "~/table.md"]) is None
    assert (sweep.parent / "table.md").exists()
