import io
import re

import pyarrow as pa
import pyarrow.parquet
import pytest
from rich.console import Console

from lessexp.data.rows import Row, write_rows
from lessexp.reports.comparison import (
    RunFolderError,
    SelectionOfRun,
    agreement_lines,
    answer_lengths,
    compare,
    comparison_page,
    comparison_tables,
    composition,
    read_selections,
)
from lessexp.reports.results import write_results
from tests.reports.conftest import results

HOSTILE = "<script>alert('[bold]x')</script>"


def row(index, dataset="sums"):
    return Row(dataset, f"row-{index}", (("user", f"question {index}"), ("assistant", "x" * (10 * index))))


def write_run(folder, selected, scores):
    folder.mkdir(parents=True)
    write_rows(folder / "selected.jsonl", selected)
    columns = {"example_id": list(scores), "dataset": ["sums"] * len(scores), "score": list(scores.values())}
    pyarrow.parquet.write_table(pa.table(columns), folder / "scores.parquet")
    return folder


@pytest.fixture
def folders(tmp_path):
    scores = {f"row-{i}": float(i) for i in range(1, 11)}
    swapped = scores | {"row-10": 9.0, "row-9": 10.0}
    return [
        write_run(tmp_path / "less" / "seed=0", [row(10), row(9), row(8), row(7, "words")], scores),
        write_run(tmp_path / "bm25" / "seed=0", [row(9), row(10), row(3)], swapped),
        write_run(
            tmp_path / "odd" / "seed=0",
            [Row(HOSTILE, "row-1", (("user", HOSTILE), ("assistant", "y")))],
            {"row-1": 1.0, "new": 2.0},
        ),
    ]


def test_agreement_is_that_of_sets_ranks_and_best_rows(folders):
    runs = read_selections(folders[:2])
    assert [run.name for run in runs] == ["less/seed=0", "bm25/seed=0"]
    (pair,) = compare(runs, n_examples=2)["pairs"]
    assert pair["jaccard"] == 2 / 5
    assert pair["spearman"] == pytest.approx(1 - 6 * 2 / (10 * 99))  # one swap of neighbours among ten
    assert pair["n_common"] == 10
    assert pair["top_overlap"] == {"1%": 0.0, "2%": 0.0, "5%": 0.0, "10%": 0.0, "20%": 1.0, "50%": 1.0}


def test_a_finished_run_is_named_by_its_selector_and_seed_too(folders):
    write_results(folders[0], results("less", 3))
    assert [run.name for run in read_selections(folders[:2])] == ["less/seed=0 (less, seed 3)", "bm25/seed=0"]


def test_rows_that_one_run_did_not_score_are_left_out_of_the_ranks(folders):
    (pair,) = compare(read_selections([folders[0], folders[2]]), n_examples=1)["pairs"]
    assert (pair["n_common"], pair["spearman"]) == (1, None)


def test_what_cannot_be_said_of_two_runs_stays_empty(folders):
    first, _, odd = read_selections(folders)
    flat = SelectionOfRun("flat", first.selected, dict.fromkeys(first.scores, 1.0))
    apart = SelectionOfRun("apart", odd.selected, {"elsewhere": 1.0})
    header, *lines = agreement_lines(compare([first, flat, apart], n_examples=0))
    assert header[:5] == ["runs", "Jaccard", "Spearman", "common", "top 1%"]
    assert lines[0][2:4] == ["", "10"]  # equal scores rank nothing
    assert lines[1][1:] == ["0.000", "", "0", *[""] * 6]


def test_composition_and_lengths_are_those_of_the_selection(folders):
    less, bm25, _ = read_selections(folders)
    assert composition([less, bm25]) == {
        "sums": {"less/seed=0": 0.75, "bm25/seed=0": 1.0},
        "words": {"less/seed=0": 0.25, "bm25/seed=0": 0.0},
    }
    assert answer_lengths(bm25) == {"25 %": 60.0, "median": 90.0, "75 %": 95.0}


def test_a_shorter_selection_leaves_places_empty(folders):
    examples = compare(read_selections(folders), n_examples=4)["examples"]
    assert [[one and one.example_id for one in rows] for rows in examples] == [
        ["row-10", "row-9", "row-1"],
        ["row-9", "row-10", None],
        ["row-8", "row-3", None],
        ["row-7", None, None],
    ]


def test_text_of_rows_is_text_on_the_page_and_the_terminal(folders):
    comparison = compare(read_selections(folders), n_examples=2)
    page = comparison_page(comparison)
    assert "<script" not in page and "&lt;script&gt;" in page
    assert not re.search(r"src=|href=(?!\"#)", page), "the page asks for another file"
    console = Console(file=io.StringIO(), width=200)
    for table in comparison_tables(comparison):
        console.print(table)
    assert "alert('[bold]x')" in console.file.getvalue()
    assert "0.400" in console.file.getvalue() and "0.400" in page


def test_folders_that_cannot_be_compared_are_named(folders, tmp_path):
    with pytest.raises(RunFolderError, match="give two or more run folders"):
        read_selections(folders[:1])
    with pytest.raises(RunFolderError, match="all different"):
        read_selections([folders[0], folders[0]])
    with pytest.raises(RunFolderError, match=r"bm25/seed=0 holds no scores\.parquet"):
        (folders[1] / "scores.parquet").unlink()
        read_selections(folders)
