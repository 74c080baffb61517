from lessexp.reports.figures import save_figures, sweep_figures
from lessexp.reports.settings import settings_of
from tests.reports.conftest import runs_of


def test_each_figure_is_written_as_pdf_and_png(tmp_path):
    runs = [run for share in ("0.05", "1.0") for run in runs_of(warmup__fraction=share, precision=None)]
    written = save_figures(settings_of(runs), tmp_path / "figures")
    names = ("over_warmup_fraction", "against_seconds", "against_flop")
    assert [path.name for path in written] == [f"answer_nll_{name}.{kind}" for name in names for kind in ("pdf", "png")]
    assert all(path.read_bytes()[:4] == (b"%PDF" if path.suffix == ".pdf" else b"\x89PNG") for path in written)


def test_time_is_in_gpu_hours_where_there_was_a_gpu():
    def names(**results):
        return [name for name, _ in sweep_figures(settings_of([*runs_of("random", **results), *runs_of(**results)]))]

    assert names() == ["answer_nll_against_seconds", "answer_nll_against_flop"]
    assert names(device="NVIDIA A100") == ["answer_nll_against_gpu_hours", "answer_nll_against_flop"]


def test_a_task_that_one_setting_lacks_is_drawn_for_the_others():
    runs = [run for d in ("512", "1024") for run in runs_of(task="mmlu", metric="accuracy", proj_dim=d)]
    runs += runs_of(task="bbh", metric="exact_match", proj_dim="512")
    assert [name for name, _ in sweep_figures(settings_of(runs)) if "over" in name] == ["mmlu_over_proj_dim"]
