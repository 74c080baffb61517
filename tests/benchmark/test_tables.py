import io

from rich.console import Console

from lessexp.benchmark.tables import figures_table, spread_text


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
    assert "1.5 GB" in line_of(text, "peak_memory_bytes.plain")
    assert "2.0 kB" in line_of(text, "bytes_stored")


def test_one_seed_has_no_deviation():
    assert spread_text({"rmse_mean": 0.12345, "rmse_std": 0.012}, "rmse", 3) == "0.123 ± 0.012"
    assert spread_text({"rmse_mean": 0.12345}, "rmse", 3) == "0.123"
