from lessexp import compare
from tests.reports.test_comparison import folders  # noqa: F401


def test_runs_are_compared_on_the_terminal_and_on_a_page(folders, tmp_path, capsys):  # noqa: F811
    page = tmp_path / "pages" / "comparison.html"
    assert compare.main([*map(str, folders), "--html", str(page)]) is None
    assert "Agreement" in capsys.readouterr().out
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_wrong_folder_ends_in_one_sentence(tmp_path):
    assert "holds no selected.jsonl" in compare.main([str(tmp_path), str(tmp_path / "other")])
