import importlib.util
import json
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("audit", Path(__file__).parents[1] / ".ci" / "audit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report(*fixes):
    vulns = [{"id": f"PYSEC-{i}", "fix_versions": versions} for i, versions in enumerate(fixes)]
    skipped = {"name": "lessexp", "skip_reason": "editable"}
    return json.dumps({"dependencies": [skipped, {"name": "torch", "version": "2.0", "vulns": vulns}], "fixes": []})


def test_only_what_a_newer_version_mends_fails(audit):
    said = "0 known vulnerabilities, 0 with a fix; the service knows 1 of 2 packages"
    assert audit.verdict(report()) == (0, [said])
    assert audit.verdict(report([]))[0] == 0
    status, lines = audit.verdict(report([], ["2.1", "3.0"]))
    assert status == 1
    assert lines[0] == "torch 2.0: PYSEC-0, fixed in no version yet"
    assert lines[1] == "torch 2.0: PYSEC-1, fixed in 2.1, 3.0"


def test_a_service_out_of_reach_fails_nothing_and_says_so(audit):
    status, [line] = audit.verdict(None)
    assert (status, "cannot be reached" in line) == (0, True)


@pytest.fixture
def pip_audit(audit, monkeypatch):
    """Let pip-audit print something."""

    def say(stdout, stderr):
        done = subprocess.CompletedProcess([], 1, stdout, stderr)
        monkeypatch.setattr(audit.subprocess, "run", lambda *args, **options: done)

    return say


def test_an_audit_that_fails_by_itself_is_no_service_out_of_reach(audit, pip_audit):
    pip_audit("", "ERROR:pip_audit._cli:Could not connect to PyPI's vulnerability feed")
    assert audit.run_audit() is None
    pip_audit('{"dependencies": []}', "")
    assert audit.run_audit() == '{"dependencies": []}'
    pip_audit("", "No module named pip_audit")
    with pytest.raises(SystemExit, match="pip-audit failed: No module named pip_audit"):
        audit.run_audit()
