"""The official conformance suite against a URL, read back check by check.

Knows: the suite's command line, where it leaves its results, which of its checks are about servers.
Must not know: what stands at the URL, what two runs should have in common.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

REVISIONS = ("2025-11-25", "2026-07-28")
RUN_S = 300.0
SCENARIO_MS = 8000
_STAMP = re.compile(r"-[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9-]+Z$")

#: (scenario, id and name of the check, status) to how often; events that only inform are left
#: out, since their number is the network's.
Checks = Counter[tuple[str, str, str]]
_PASSED, _COUNTED = "SUCCESS", ("SUCCESS", "FAILURE", "WARNING", "SKIPPED")


def run_suite(node: Path, suite: Path, url: str, revision: str) -> tuple[Checks, str]:
    """All checks of one revision, and what the suite printed last."""
    with tempfile.TemporaryDirectory(prefix="aegis-conformance-") as name:
        done = subprocess.run(
            [
                str(node), str(suite), "server", "--url", url, "--suite", "all",
                "--spec-version", revision, "--timeout", str(SCENARIO_MS), "-o", name,
            ],
            capture_output=True,
            text=True,
            timeout=RUN_S,
        )  # fmt: skip
        checks = read_checks(Path(name))
    return checks, (done.stdout + done.stderr).strip()[-300:]


def read_checks(folder: Path) -> Checks:
    """What the suite left in its results folder: one folder per scenario, with a checks.json."""
    checks: Checks = Counter()
    for path in sorted(folder.glob("*/checks.json")):
        scenario = _STAMP.sub("", path.parent.name)
        for check in json.loads(path.read_text()):
            if check["status"] in _COUNTED:
                checks[scenario, f"{check['id']} {check['name']}", check["status"]] += 1
    return checks


def figures(checks: Checks) -> dict[str, int]:
    """How many checks had which status, and of how many scenarios."""
    statuses: Counter[str] = Counter()
    for (_, _, status), count in checks.items():
        statuses[status.lower()] += count
    return {"scenarios": len({scenario for scenario, _, _ in checks}), **statuses}


def differences(direct: Checks, through: Checks) -> list[str]:
    """Each check whose result is not the same, and how often it was what."""
    return [
        f"{scenario}: {check}: {status} {direct[scenario, check, status]} times direct, "
        f"{through[scenario, check, status]} times through the sidecar"
        for scenario, check, status in sorted(direct.keys() | through.keys())
        if direct[scenario, check, status] != through[scenario, check, status]
    ]


def failures(checks: Checks) -> list[str]:
    """The checks that did not pass."""
    return [f"{s}: {c}: {status}" for s, c, status in checks if status != _PASSED]
