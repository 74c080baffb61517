import pytest

from lessexp.reports.measures import Measure, costs, direction, own_metric, qualities, scale_of
from tests.reports.conftest import results


def test_what_was_reused_counts_as_if_it_had_been_built():
    assert costs(results()) == {"seconds": 15, "FLOP": 2e9, "bytes": 2000}
    assert costs(results(reused_in=80.0)) == {"seconds": 95, "FLOP": 6e9, "bytes": 9000}


def test_what_was_copied_counts_as_if_it_had_been_computed():
    record = results()
    record["stages"]["gradients"]["artifacts"]["pool_gradients"]["copied"] = {"seconds": 40.0, "flops": 3e9}
    assert costs(record) == {"seconds": 55, "FLOP": 5e9, "bytes": 2000}


def test_bytes_of_what_older_runs_reused_are_not_known():
    record = results(reused_in=80.0)
    del record["stages"]["gradients"]["artifacts"]["pool_gradients"]["bytes"]
    assert costs(record) == {"seconds": 95, "FLOP": 6e9}


def test_gpu_hours_are_the_hours_of_a_card_and_absent_on_a_cpu():
    assert costs(results(device="NVIDIA A100", reused_in=3585.0))["GPU-hours"] == 1
    assert "GPU-hours" not in costs(results(device="cpu"))


def test_a_pool_of_unknown_rows_has_no_share_of_wanted_rows():
    assert [measure.name for measure in qualities(results())] == ["wanted rows", "answer_nll"]
    assert [measure.name for measure in qualities(results(precision=None))] == ["answer_nll"]


def test_an_nll_is_good_when_low_a_score_when_high_and_an_unknown_metric_neither():
    told = {"higher_is_better": {"answer_nll": False, "mine": True, "loss_of_mine": False}}
    assert [direction(name, told) for name in ("answer_nll", "mine", "loss_of_mine", "untold")] == [-1, 1, -1, 0]


def test_of_runs_that_do_not_tell_the_shipped_metrics_are_known():
    assert [direction(name, {}) for name in ("answer_nll", "accuracy", "f1", "exact_match", "score")] == [-1, *[1] * 4]
    assert direction("bleurt_diff", {}) == 0


def test_the_benchmarks_own_metric_is_the_first_beside_the_nll():
    assert own_metric(results(tuned={"answer_nll": 1.0, "f1": 0.5, "exact_match": 0.4})) == "f1"
    assert own_metric(results()) == "answer_nll"


@pytest.mark.parametrize(
    ("name", "largest", "header", "shown"),
    [
        ("FLOP", 4.61e13, "TFLOP", "46.1"),
        ("bytes", 9e8, "MB written", "900.0"),
        ("bytes", 12.0, "B written", "12.0"),
        ("seconds", 15.4, "seconds", "15"),
        ("GPU-hours", 0.256, "GPU-hours", "0.26"),
    ],
)
def test_costs_are_written_in_the_unit_of_the_largest(name, largest, header, shown):
    scale = scale_of(Measure(name, name, (), 0), largest, in_percent=True)
    assert (scale.header, f"{scale.factor * largest:.{scale.digits}f}") == (header, shown)


def test_shares_alone_are_written_in_percent_beside_published_ones():
    accuracy, nll = Measure("accuracy", "accuracy", ("mmlu",), 1), Measure("answer_nll", "answer_nll", ("mmlu",), -1)
    assert scale_of(accuracy, 0.5, in_percent=True).factor == 100
    assert scale_of(accuracy, 0.5, in_percent=False).factor == scale_of(nll, 0.5, in_percent=True).factor == 1
