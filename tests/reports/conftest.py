import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from lessexp.reports.runs import SweepRun


def results(
    selector="less",
    seed=0,
    *,
    tuned=None,
    base=None,
    precision=0.5,
    task="toy",
    model="tiny",
    seconds=5.0,
    reused_in=None,
    **others,
) -> dict:
    """Results of a run as a report stage writes them, with the metrics given."""
    tuned = {"answer_nll": 1.0} if tuned is None else tuned
    base = dict.fromkeys(tuned, 3.0) | (base or {})
    artifact = {"reused": reused_in is not None, "built_in_seconds": reused_in or 100.0, "flops": 4e9, "bytes": 7000}
    costs = {"peak_memory_bytes": 1, "bytes_written": 1000, "flops": 1e9}
    return {
        "selector": selector,
        "model": model,
        "selection_model": model,
        "task": task,
        "seed": seed,
        "fraction": 0.05,
        "metrics": {name: {"base": {"mean": base[name]}, "tuned": {"mean": value}} for name, value in tuned.items()},
        "selection": {"n_pool": 40, "precision": precision, "by_dataset": {"sums": {"pool": 1.0, "selected": 1.0}}},
        "stages": {
            "gradients": costs | {"seconds": 10.0, "artifacts": {"pool_gradients": artifact}},
            "finetune": costs | {"seconds": seconds, "artifacts": {}},
        },
        "versions": {"lessexp": "1", "torch": "2"},
        "git_commit": "a" * 40,
    } | others


def runs_of(selector="less", figures=(0.5,), *, metric="answer_nll", **settings) -> list[SweepRun]:
    """A run for each figure, with seeds from 0 on; settings that are no part of results are overrides."""
    of_results = {
        name: settings.pop(name) for name in list(settings) if name in ("task", "model", "precision", "device")
    }
    overrides = {"selector": selector} | {key.replace("__", "."): value for key, value in settings.items()}
    return [
        SweepRun(overrides, results(selector, seed, tuned={metric: figure}, **of_results), f"{selector}-{seed}")
        for seed, figure in enumerate(figures)
    ]


@pytest.fixture
def write_run() -> Callable[..., Path]:
    """Write a run folder; one without results did not finish."""

    def write(folder: Path, overrides: list[str], record: dict | None) -> Path:
        (folder / ".hydra").mkdir(parents=True)
        lines = "".join(f"- {override}\n" for override in overrides) or "[]\n"
        (folder / ".hydra" / "overrides.yaml").write_text(lines)
        if record is not None:
            (folder / "results.json").write_text(json.dumps(record))
        return folder

    return write


@pytest.fixture
def sweep(tmp_path: Path, write_run: Callable[..., Path]) -> Path:
    """Two selectors over three seeds; job 10 comes after job 2."""
    numbers = iter((0, 1, 2, 10, 11, 12))
    for selector, nlls in (("random", (1.0, 1.5, 1.7)), ("less", (0.5, 0.6, 0.4))):
        for seed, nll in enumerate(nlls):
            record = results(selector, seed, tuned={"answer_nll": nll})
            write_run(tmp_path / "sweep" / str(next(numbers)), [f"selector={selector}", f"seed={seed}"], record)
    return tmp_path / "sweep"


@pytest.fixture
def browse(tmp_path: Path) -> Callable[[str, str, int], Any]:
    """Open a page in Chromium at some width and return what a script finds there.

    The script, a function's body, gets ``page`` and ``view``: the document and the window of the page as it is.
    """
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(names)} is installed")

    def open_page(text: str, script: str, width: int) -> Any:
        (tmp_path / "page.html").write_text(text, encoding="utf-8")
        (tmp_path / "frame.html").write_text(
            f'<!doctype html><iframe src="page.html" width="{width}" height="800" style="border:0"></iframe><pre></pre>'
            "<script>document.querySelector('iframe').onload = event => {"
            "const view = event.target.contentWindow, page = view.document;"
            f"const found = ((page, view) => {{ {script} }})(page, view);"
            "document.querySelector('pre').textContent = encodeURIComponent(JSON.stringify(found)); };</script>"
        )
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom"]
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [browser, *options, profile, "--virtual-time-budget=5000", str(tmp_path / "frame.html")]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
        return json.loads(unquote(shown.partition("<pre>")[2].partition("</pre>")[0]))

    return open_page
