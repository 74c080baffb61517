"""Known vulnerabilities of the installed packages: ``python .ci/audit.py``; fails on those that a newer version mends.

What has no fix is listed and passes, and so does an audit whose service cannot be reached.
"""

import json
import re
import subprocess
import sys
from collections.abc import Sequence

_SECONDS = 300  # of the whole audit
_UNREACHED = re.compile(r"connect|resol|timed? ?out|max retries", re.IGNORECASE)  # in what pip-audit says then


def run_audit() -> str | None:
    """What pip-audit says of this environment, as JSON; None if it reaches no service.

    Raises:
        SystemExit: it failed for a reason of its own.
    """
    command = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--format=json", "--timeout=10"]
    try:
        done = subprocess.run([*command, "--progress-spinner=off"], capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        return None
    if done.stdout.lstrip().startswith("{"):
        return done.stdout
    if _UNREACHED.search(done.stderr):
        return None
    raise SystemExit(f"pip-audit failed: {done.stderr.strip()[-2000:]}")


def verdict(report: str | None) -> tuple[int, Sequence[str]]:
    """Exit status and lines for the reader."""
    if report is None:
        return 0, ["the audit's service cannot be reached; nothing is known of vulnerabilities"]
    packages = json.loads(report)["dependencies"]
    audited = [package for package in packages if "skip_reason" not in package]
    fixable, lines = 0, []
    for package in audited:
        for found in package["vulns"]:
            fixes = ", ".join(found["fix_versions"])
            fixable += bool(fixes)
            lines.append(f"{package['name']} {package['version']}: {found['id']}, fixed in {fixes or 'no version yet'}")
    counts = f"{len(lines)} known vulnerabilities, {fixable} with a fix"
    known = f"the service knows {len(audited)} of {len(packages)} packages"
    return int(fixable > 0), [*lines, f"{counts}; {known}"]


if __name__ == "__main__":
    status, lines = verdict(run_audit())
    print("\n".join(lines))
    sys.exit(status)
