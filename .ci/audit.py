"""Known vulnerabilities of the installed packages: ``python .ci/audit.py``; fails on those that a newer version mends.

What has no fix is listed and passes, and so does an audit whose service cannot be reached.
"""

import json
import subprocess
import sys
from collections.abc import Sequence

_SECONDS = 300  # of the whole audit


def run_audit() -> str | None:
    """What pip-audit says of this environment, as JSON; None if it came to no end."""
    command = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--format=json", "--timeout=10"]
    try:
        done = subprocess.run([*command, "--progress-spinner=off"], capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.stdout.lstrip().startswith("{") else None


def verdict(report: str | None) -> tuple[int, Sequence[str]]:
    """Exit status and lines for the reader."""
    if report is None:
        return 0, ["the audit's service cannot be reached; nothing is known of vulnerabilities"]
    fixable, lines = 0, []
    for package in json.loads(report)["dependencies"]:
        for found in package.get("vulns", []):
            fixes = ", ".join(found["fix_versions"])
            fixable += bool(fixes)
            lines.append(f"{package['name']} {package['version']}: {found['id']}, fixed in {fixes or 'no version yet'}")
    return int(fixable > 0), [
        *lines,
        f"{len(lines)} known vulnerabilities, {fixable} with a fix",
    ]


if __name__ == "__main__":
    status, lines = verdict(run_audit())
    print("\n".join(lines))
    sys.exit(status)
