import statistics

from lessexp.reports.runs import read_sweep
from lessexp.reports.sweep_table import sweep_table
from tests.reports.conftest import runs_of


def column(table, header):
    place = table.header.index(header)
    return [line[place].text for line in table.lines]


def test_the_table_holds_means_deviations_and_costs(sweep):
    lines = sweep_table(read_sweep([sweep])).texts
    assert lines[0] == ["", "n", "wanted rows", "answer_nll", "seconds", "GFLOP", "kB written"]
    assert lines[1] == ["(untrained)", "", "", "3.000", "", "", ""]
    spread = statistics.stdev([1.0, 1.5, 1.7])
    assert lines[2] == ["random", "3", "50.0 ± 0.0 %", f"1.400 ± {spread:.3f}", "15 ± 0", "2.0 ± 0.0", "2.0 ± 0.0"]


def test_the_best_is_bold_where_it_is_ahead_by_more_than_the_noise_and_costs_never_are():
    runs = [*runs_of("random", [1.0, 1.1, 1.2]), *runs_of("less", [0.5, 0.6, 0.7])]
    bold = [cell.text for line in sweep_table(runs).lines for cell in line if cell.bold]
    assert bold == ["0.600 ± 0.100"]
    assert any(note.startswith("Bold") for note in sweep_table(runs).notes)
    close = [*runs_of("random", [1.0, 1.5, 1.7]), *runs_of("less", [1.4, 1.6, 0.9])]
    assert not any(cell.bold for line in sweep_table(close).lines for cell in line)


def test_models_have_a_best_and_an_untrained_line_each():
    runs = [
        run
        for model, shift in (("small", 1.0), ("large", 0.0))
        for selector, nll in (("random", 1.0), ("less", 0.5))
        for run in runs_of(selector, [nll + shift, nll + shift + 0.01], model=model)
    ]
    for run in runs:
        run.overrides["model"] = run.results["model"]
    table = sweep_table(runs)
    assert [line[0].text for line in table.lines[:2]] == ["(untrained) small", "(untrained) large"]
    assert [line[0].text for line in table.lines if any(cell.bold for cell in line)] == [
        "less model=small",
        "less model=large",
    ]


def paper_runs(figures=(0.49, 0.5, 0.54)):
    return [
        run
        for selector in ("random", "less", "dsir")
        for run in runs_of(selector, figures, metric="accuracy", task="mmlu", model="llama2_7b", precision=None)
    ]


def test_published_values_stand_beside_ours_in_percent_with_the_difference():
    table = sweep_table(paper_runs())
    assert table.header[2:5] == ["accuracy [%]", "accuracy, published", "accuracy − published"]
    assert column(table, "accuracy [%]") == ["300.0", *["51.0 ± 2.6"] * 3]  # 1 ± sqrt(7)
    assert column(table, "accuracy, published") == ["", "46.5 ± 0.5", "50.2 ± 0.5", ""]
    assert column(table, "accuracy − published") == ["", "+4.5", "+0.8", ""]


def test_unconfirmed_values_are_shown_on_request_and_marked():
    table = sweep_table(paper_runs(), unconfirmed=True)
    assert column(table, "accuracy, published")[-1] == "46.1? ± 0.3?"
    assert any("question mark" in note for note in table.notes)
    assert not any("question mark" in note for note in sweep_table(paper_runs()).notes)


def test_runs_that_nobody_published_get_no_empty_columns(sweep):
    assert not any("published" in name for name in sweep_table(read_sweep([sweep])).header)


def test_another_pool_than_the_published_one_is_noted():
    runs = paper_runs()
    for run in runs:
        run.results["pool"] = {"differences": {"cot": {"found": 9000, "expected": 100000}}}
    assert "The pool is not the published one: 'cot' 9,000 of 100,000 rows." in sweep_table(runs).notes


def test_intervals_are_columns_on_request():
    runs = [*runs_of("random", [0.1, 0.2, 0.3]), *runs_of("less", [0.2])]
    runs[-1].results["metrics"]["answer_nll"]["tuned"]["interval"] = [0.15, 0.25]
    table = sweep_table(runs, intervals=True)
    assert column(table, "answer_nll, 95 % interval") == ["", "0.100 to 0.300", "0.150 to 0.250 (rows)"]
    assert not any("interval" in name for name in sweep_table(runs).header)


def test_an_untrained_model_that_was_asked_otherwise_shows_its_range():
    runs = [*runs_of(max_length="64"), *runs_of(max_length="128")]
    runs[1].results["metrics"]["answer_nll"]["base"]["mean"] = 2.5
    assert column(sweep_table(runs), "answer_nll")[0] == "2.500–3.000"


def test_an_untrained_model_on_test_rows_drawn_by_the_seed_has_a_spread_too():
    runs = [*runs_of("random", [1.0, 1.0]), *runs_of("less", [1.0, 1.0])]
    for run in runs:
        run.results["metrics"]["answer_nll"]["base"]["mean"] = 3.0 + run.results["seed"]
    assert column(sweep_table(runs), "answer_nll")[0] == "3.500 ± 0.707"  # sqrt(1 / 2)


def test_different_devices_are_noted():
    runs = [*runs_of("random", device="cpu"), *runs_of("less", device="NVIDIA A100")]
    table = sweep_table(runs, notes=["Said besides."])
    assert any("times do not compare: cpu, NVIDIA A100" in note for note in table.notes)
    assert column(table, "GPU-hours") == ["", "", "0.00"]
    assert table.notes[-1] == "Said besides."
