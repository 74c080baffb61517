import importlib.util
import json
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
    assert audit.verdict(report()) == (0, ["0 known vulnerabilities, 0 with a fix"])
    assert audit.verdict(report([]))[0] == 0
    status, lines = audit.verdict(report([], ["2.1", "3.0"]))
    assert status == 1
    assert lines[0] == "torch 2.0: PYSEC-0, fixed in no version yet"
    assert lines[1] == "torch 2.0: PYSEC-1, fixed in 2.1, 3.0"


def test_a_service_out_of_reach_fails_nothing_and_says_so(audit):
    status, [line] = audit.verdict(None)
    assert (status, "cannot be reached" in line) == (0, True)
