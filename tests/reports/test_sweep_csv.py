import csv
import io
import statistics

import pytest

from lessexp.reports.sweep_csv import sweep_csv
from tests.reports.conftest import runs_of


def read(runs, **options):
    return list(csv.DictReader(io.StringIO(sweep_csv(runs, **options))))


def test_lines_read_back_hold_the_unrounded_figures():
    nlls = [1 / 3, 2 / 3, 1 / 7]
    lines = read([*runs_of("less", nlls, data="[a,b]"), *runs_of("random", [5.0], data="c")])
    line = next(line for line in lines if (line["selector"], line["figure"]) == ("less", "answer_nll"))
    assert (line["setting"], line["data"], line["n"], line["seeds"]) == ("less data=[a,b]", "[a,b]", "3", "0 1 2")
    assert float(line["mean"]) == statistics.mean(nlls)
    assert float(line["sd"]) == statistics.stdev(nlls)
    assert [float(line[end]) for end in ("low", "high")] == pytest.approx([1 / 7, 2 / 3])
    assert (line["interval_over"], line["best"], line["untrained"], line["published"]) == ("seeds", "False", "3.0", "")
    [seconds] = [line for line in lines if (line["selector"], line["figure"]) == ("random", "seconds")]
    assert (float(seconds["mean"]), seconds["sd"], seconds["low"]) == (15, "", "")


def test_published_values_are_shares_as_ours():
    runs = runs_of("less", [0.55], metric="accuracy", task="mmlu", model="llama2_13b", precision=None)
    line = read(runs)[0]
    assert (float(line["published"]), line["published_sd"]) == (0.54, "")
    assert float(line["difference"]) == pytest.approx(0.01)
    assert "2402.04333" in line["published_source"]
    assert read(runs, unconfirmed=True)[0]["published_sd"] == str(0.7 / 100)
