import json
import subprocess

import pytest

from lessexp.data.rows import Row
from lessexp.errors import DamagedFileError
from lessexp.reports.results import (
    by_key,
    device_name,
    git_commit,
    package_versions,
    read_results,
    selection_summary,
    write_results,
    written_in,
)

RESULTS = {"selector": "less", "model": "m", "task": "t", "seed": 0, "metrics": {}, "selection": {}, "stages": {}}


def rows(**counts):
    return [
        Row(dataset, f"{dataset}-{index}", (("user", "q"), ("assistant", "a")))
        for dataset, n in counts.items()
        for index in range(n)
    ]


def test_precision_and_shares_equal_a_count_by_hand():
    summary = selection_summary(
        rows(dolly=5, sums=3, words=2), rows(sums=3, dolly=1), target=rows(words=1, sums=7, elsewhere=2)
    )
    assert summary == {
        "n_pool": 10,
        "n_selected": 4,
        "precision": 0.75,
        "pool_share": 0.5,
        "by_dataset": {
            "dolly": {"wanted": False, "pool": 0.5, "selected": 0.25},
            "sums": {"wanted": True, "pool": 0.3, "selected": 0.75},
            "words": {"wanted": True, "pool": 0.2, "selected": 0.0},
        },
    }


def test_precision_is_none_where_no_data_set_of_the_target_is_in_the_pool():
    summary = selection_summary(rows(dolly=3, cot=1), rows(dolly=2), target=rows(mmlu=4))
    assert summary["precision"] is None and summary["pool_share"] is None
    assert summary["by_dataset"]["dolly"] == {"wanted": False, "pool": 0.75, "selected": 1.0}


def test_precision_is_zero_where_the_wanted_rows_were_there_but_none_was_selected():
    assert selection_summary(rows(dolly=3, sums=1), rows(dolly=2), target=rows(sums=4))["precision"] == 0


def test_results_read_back_as_they_were_written_and_leave_no_partial_file(tmp_path):
    results = RESULTS | {"metrics": {"score": {"base": 0.1, "tuned": 1 / 3}}, "task": "Zürich 世界", "git_commit": None}
    write_results(tmp_path, results)
    assert read_results(tmp_path) == results
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]
    assert "世界" in (tmp_path / "results.json").read_text(encoding="utf-8")


def test_results_that_cannot_be_written_leave_the_old_ones(tmp_path):
    write_results(tmp_path, RESULTS)
    with pytest.raises(TypeError):
        write_results(tmp_path, {"seed": object()})
    assert read_results(tmp_path) == RESULTS


def test_results_of_an_unfinished_run_are_reported_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="did not reach its report"):
        read_results(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '"text"', json.dumps(RESULTS)[:-9], "[" * 9999, "\0"])
def test_results_that_are_cut_or_something_else_are_one_sentence(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(DamagedFileError, match=r"/results\.json (is damaged|holds no results).*; copy it again"):
        read_results(tmp_path)


def test_what_a_run_set_is_read_from_its_results_and_of_older_runs_from_its_folder(tmp_path):
    assert written_in(tmp_path, {}) is None
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("[+a.b=1, ~c, seed=2]")
    assert written_in(tmp_path, {}) == (["+a.b=1", "~c", "seed=2"], {})
    assert written_in(tmp_path, {"overrides": ["seed=1"], "settings": {"seed": 1}}) == (["seed=1"], {"seed": 1})
    assert by_key(["+a.b=x=1", "~c", "seed=2"]) == {"a.b": "x=1", "c": "", "seed": "2"}


def test_package_versions_name_what_is_installed():
    import torch

    versions = package_versions()
    assert versions["torch"] == torch.__version__
    assert json.dumps(versions)


@pytest.fixture
def git(tmp_path, monkeypatch):
    """Run git in a new repository, out of reach of the one that the tests run in."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    identity = ["-c", "user.name=tester", "-c", "user.email=tester@example.org", "-c", "commit.gpgsign=false"]

    def run(*arguments):
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    return run


def test_commit_is_that_of_the_checkout_and_marked_when_files_differ(git, tmp_path):
    git("init", "--quiet")
    (tmp_path / "code.py").write_text("a = 1\n")
    git("add", "code.py")
    git("commit", "--quiet", "--message", "Add code")
    git("tag", "v1")  # a tag must not take the place of the hash
    commit = git("rev-parse", "HEAD")
    assert git_commit(tmp_path) == commit
    (tmp_path / "package").mkdir()
    (tmp_path / "code.py").write_text("a = 2\n")
    assert git_commit(tmp_path / "package") == f"{commit}-dirty"


def test_commit_is_none_outside_a_checkout(git, tmp_path):
    assert git_commit(tmp_path) is None


def test_commit_is_none_where_git_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit(tmp_path) is None


def test_a_graphics_card_is_named_and_other_devices_are_called_what_torch_calls_them(monkeypatch):
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: f"NVIDIA A100 at {device}")
    assert device_name("cuda:1") == "NVIDIA A100 at cuda:1"
    assert device_name("cpu") == "cpu"
