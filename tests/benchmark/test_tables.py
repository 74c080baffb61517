import io

import pytest
from rich.console import Console

from lessexp.benchmark.tables import figures_table, new_table, size_text, spread_text


def printed(table):
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    return console.file.getvalue()


def line_of(text, name):
    [line] = [line for line in text.splitlines() if f" {name} " in line]
    return line


def test_figures_stand_under_their_names_in_the_file():
    timing = {"median": 1.5, "fastest": 1.25, "slowest": 12.0}
    results = {
        "n_rows": 12345,
        "seconds_r128": {"plain": timing, "released": 99.75},
        "features_over_plain_r128": 1.23456,
        "peak_memory_bytes": {"plain": 1_500_000_000},
        "bytes_stored": 2048,
    }
    text = printed(figures_table("Speed [measured]", results))
    assert "Speed [measured]" in text
    assert "12,345" in line_of(text, "n_rows")
    assert "1.5 s [1.25–12]" in line_of(text, "seconds_r128.plain")
    assert "99.8 s" in line_of(text, "seconds_r128.released")
    assert "1.235" in line_of(text, "features_over_plain_r128")
    assert "1.50 GB" in line_of(text, "peak_memory_bytes.plain")
    assert "2.05 kB" in line_of(text, "bytes_stored")


@pytest.mark.parametrize(("n_bytes", "text"), [(999, "999 B"), (1000, "1.00 kB"), (2_345_678, "2.35 MB")])
def test_sizes_have_a_unit_that_leaves_few_digits(n_bytes, text):
    assert size_text(n_bytes) == text


def test_one_seed_has_no_deviation():
    assert spread_text({"rmse_mean": 0.12345, "rmse_std": 0.012}, "rmse", 3) == "0.123 ± 0.012"
    assert spread_text({"rmse_mean": 0.12345}, "rmse", 3) == "0.123"


def test_names_stand_left_and_numbers_right():
    table = new_table("", "name", "number")
    table.add_row("a long name", "12345.6")
    table.add_row("b", "7")
    last = line_of(printed(table), "b")
    assert last.replace("│", "|") == "| b           |       7 |"
