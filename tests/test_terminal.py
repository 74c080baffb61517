import io
import os
import shutil
import subprocess
import sys

import pytest

from lessexp.data.rows import Row, write_rows
from lessexp.terminal import print_any_text
from tests.stages.conftest import SHRUNK
from tests.test_run import ROOT, run_py


@pytest.mark.parametrize(
    ("encoding", "errors", "printed"),
    [
        ("ascii", "strict", "-- ? 3x ?"),
        ("ascii", "surrogateescape", "-- ? 3x ?"),
        ("latin-1", "strict", "-- ü 3× ?"),
        ("utf-8", "strict", "── ü 3× Γ"),
        ("ascii", "backslashreplace", r"\u2500\u2500 \xfc 3\xd7 \u0393"),
    ],
)
def test_what_an_encoding_lacks_is_printed_as_something_like_it(monkeypatch, encoding, errors, printed):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding, errors=errors))
    print_any_text()
    print("── ü 3× Γ", end="", flush=True)
    assert written.getvalue().decode(encoding) == printed


def test_output_that_is_no_text_file_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    print_any_text()
    print("Γ")
    assert sys.stdout.getvalue() == "Γ\n"


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},  # files opened without an encoding, too
        {"PYTHONIOENCODING": "ascii", "TERM": "dumb", "COLUMNS": "40"},
    ],
    ids=["C locale", "dumb terminal"],
)
def test_a_run_and_its_reports_end_well_where_nothing_is_utf_8(model_folder, tmp_path, environment):
    folder = tmp_path / "Läufe 模型"
    folder.mkdir()
    for name, n in (("pool", 24), ("target", 5)):
        rows = [
            Row("Σ–☃", f"{name} № {i}", (("user", f"{i} é"), ("assistant", f"{i} ☃ 😀")), task="ß", subtask="слова 😀")
            for i in range(n)
        ]
        write_rows(folder / f"{name}.jsonl", rows)
    places = [
        f"model.path={model_folder}",
        f'data.paths=["{folder}/pool.jsonl"]',
        f'target.path="{folder}/target.jsonl"',
    ]
    options = [*SHRUNK, "warmup.training.epochs=1", f'artifacts_dir="{folder}/artifacts"', *places]
    done = run_py(tmp_path / "out", *options, **environment)
    assert done.returncode == 0, done.stderr
    assert "Data sets" in done.stdout
    shutil.copytree(tmp_path / "out", tmp_path / "copy")
    for command in (
        ["lessexp.reports", "--page", "page.html"],
        ["lessexp.compare", str(tmp_path / "copy"), "--html", "compared.html"],
    ):
        shown = subprocess.run(
            [sys.executable, "-m", command[0], str(tmp_path / "out"), *command[1:]],
            capture_output=True,
            cwd=tmp_path,
            env=os.environ | environment | {"PYTHONPATH": str(ROOT)},
        )
        assert shown.returncode == 0, shown.stderr
    assert "слова 😀" in (tmp_path / "page.html").read_text(encoding="utf-8")
