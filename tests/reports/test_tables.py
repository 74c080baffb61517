import copy
import io

import pytest
from rich.console import Console

from lessexp.reports.tables import composition_table, cost_table, metric_table, new_table, report_tables, with_unit

RESULTS = {
    "held_out": True,
    "metrics": {
        "answer_nll": {
            "base": {"mean": 2.5, "by_subtask": {"sums": 2.0, "words": 3.0}},
            "tuned": {"mean": 1.25, "by_subtask": {"sums": 0.5, "words": 2.0}},
        },
        "score": {
            "base": {"mean": 0.125, "by_subtask": {"sums": 0.0, "words": 0.25}},
            "tuned": {"mean": 0.5, "by_subtask": {"sums": 0.625, "words": 0.375}},
        },
    },
    "selection": {
        "n_pool": 320,
        "n_selected": 32,
        "precision": 0.875,
        "pool_share": 0.2,
        "by_dataset": {
            "coin_flip": {"wanted": False, "pool": 0.8, "selected": 0.125},
            "chain_sum": {"wanted": True, "pool": 0.2, "selected": 0.875},
        },
    },
    "stages": {
        "warmup": {
            "seconds": 12.34,
            "peak_memory_bytes": 1_500_000_000,
            "bytes_written": 2_000_000,
            "flops": 3.1e12,
            "artifacts": {"warmup": {"key": "3f2a", "reused": True, "built_in_seconds": 62.04}},
        },
        "select": {"seconds": 0.5, "peak_memory_bytes": 900_000_000, "bytes_written": 512, "flops": 0, "artifacts": {}},
    },
}


def lines(*shown):
    """What a terminal of 120 columns shows, as the words of each line."""
    console = Console(record=True, width=120, file=io.StringIO())
    for item in shown:
        console.print(item)
    return console.export_text().splitlines()


def line_with(text, shown):
    (found,) = [line for line in shown if text in line]
    return found


def cells(line):
    return [cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")]


def test_metrics_show_base_tuned_and_change_of_every_subtask_and_of_the_mean():
    shown = lines(metric_table(RESULTS))
    assert cells(line_with("answer_nll, sums", shown)) == ["answer_nll, sums", "2.000", "0.500", "-1.500"]
    assert cells(line_with("answer_nll, mean", shown)) == ["answer_nll, mean of subtasks", "2.500", "1.250", "-1.250"]
    assert cells(line_with("score, words", shown)) == ["score, words", "0.250", "0.375", "+0.125"]


def test_composition_shows_shares_and_enrichment_largest_selected_share_first():
    shown = lines(composition_table(RESULTS["selection"]))
    wanted, other = line_with("chain_sum", shown), line_with("coin_flip", shown)
    assert cells(wanted) == ["chain_sum (wanted)", "20.0%", "87.5%", "4.4×"]
    assert cells(other) == ["coin_flip", "80.0%", "12.5%", "0.2×"]
    assert shown.index(wanted) < shown.index(other)


def test_costs_show_each_stage_and_their_sum_with_the_highest_peak():
    shown = lines(cost_table(RESULTS["stages"]))
    assert cells(line_with("warmup", shown)) == [
        "warmup",
        "12.3",
        "1.5 GB",
        "2.0 MB",
        "3.1 TFLOP",
        "62 s",
    ]
    assert cells(line_with("select", shown)) == ["select", "0.5", "900.0 MB", "512 B", "0 FLOP", ""]
    assert cells(line_with(" all ", shown)) == ["all", "12.8", "1.5 GB", "2.0 MB", "3.1 TFLOP", ""]


def test_a_terminal_of_80_columns_shows_all_of_it():
    console = Console(record=True, width=80, file=io.StringIO())
    for table in (cost_table(RESULTS["stages"]), metric_table(RESULTS)):
        console.print(table)
    assert "…" not in console.export_text()


def test_report_shows_all_tables_and_says_how_many_picks_are_wanted():
    shown = lines(*report_tables(RESULTS))
    assert "87.5% of the 32 selected rows" in line_with("selected rows", shown)
    assert "20.0%" in line_with("random choice", shown)
    for title in ("Data sets", "Held-out rows", "Cost"):
        assert line_with(title, shown)


def test_it_is_said_where_nothing_was_held_out():
    shown = lines(metric_table(RESULTS | {"held_out": False}))
    assert line_with("The target rows themselves (nothing was held out)", shown)


def test_report_says_nothing_of_precision_where_it_is_not_known():
    results = copy.deepcopy(RESULTS)
    results["selection"] |= {"precision": None, "pool_share": None}
    assert not any("random choice" in line for line in lines(*report_tables(results)))


@pytest.mark.parametrize("name", ["[red]odd", "tail[/b]", "back\\[i]slash", "face:smile:"])
def test_names_are_shown_as_they_are_even_where_they_look_like_markup(name):
    selection = {"by_dataset": {name: {"wanted": True, "pool": 0.5, "selected": 1.0}}}
    assert cells(line_with("100.0%", lines(composition_table(selection))))[0] == f"{name} (wanted)"
    models = {model: {"mean": 1.5, "by_subtask": {name: 1.0}} for model in ("base", "tuned")}
    assert (
        cells(line_with("1.000", lines(metric_table({"held_out": True, "metrics": {"score": models}}))))[0]
        == f"score, {name}"
    )


def test_names_stand_left_and_numbers_right():
    table = new_table("[title]", "name", "number")
    table.add_row("a long name", "12345.6")
    table.add_row("b", "7")
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    lines = console.file.getvalue().splitlines()
    assert "[title]" in lines[0]
    assert next(line for line in lines if " b " in line).replace("│", "|") == "| b           |       7 |"


@pytest.mark.parametrize(("value", "text"), [(999, "999 B"), (1000, "1.0 kB"), (2_345_678, "2.3 MB"), (0, "0 B")])
def test_quantities_have_a_prefix_that_leaves_few_digits(value, text):
    assert with_unit(value, "B") == text


def with_intervals(results):
    results = copy.deepcopy(results)
    for models in results["metrics"].values():
        models["change"] = {"mean": models["tuned"]["mean"] - models["base"]["mean"]}
        for shift, model in enumerate(models.values()):
            model |= {"interval": [shift - 0.5, shift + 0.25], "mean_of_rows": 0.0625 * (shift + 1)}
    return results


def test_intervals_of_the_means_stand_in_a_table_of_their_own_on_80_columns():
    console = Console(record=True, width=80, file=io.StringIO())
    for item in report_tables(with_intervals(RESULTS)):
        console.print(item)
    shown = console.export_text().splitlines()
    assert "…" not in "".join(shown)
    intervals = next(line for line in shown if cells(line)[0] == "score")
    assert cells(intervals) == ["score", "-0.500 to 0.250", "0.500 to 1.250", "1.500 to 2.250"]
    assert cells(line_with("score, mean of rows", shown)) == ["score, mean of rows", "0.062", "0.125", "+0.062"]


def test_results_of_runs_before_there_were_intervals_are_shown_without():
    assert not any("Intervals" in line for line in lines(*report_tables(RESULTS)))


def test_a_number_of_an_older_run_that_is_none_is_called_so():
    results = copy.deepcopy(RESULTS)
    results["metrics"]["answer_nll"]["tuned"]["by_subtask"]["sums"] = float("nan")
    shown = io.StringIO()
    Console(file=shown, width=200).print(metric_table(results))
    [line] = [line for line in shown.getvalue().splitlines() if "answer_nll, sums" in line]
    assert line.count("not finite") == 2 and "2.000" in line and "nan" not in line
