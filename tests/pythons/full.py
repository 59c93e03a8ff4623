"""The tests on every other Python that README allows and this machine has.

    bash tests/full.sh pythons [PLACES]    folders or files of tests, with commas; or `all`

What Python itself changes shows nowhere else: what its SSL asks of certificates, how deep its JSON
reader goes, what its SQLite module takes. Each version has an environment of its own, made as a
user's is. A test that fails is a violation, and so is a machine with no other Python.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from full_report import checked_out, tell
from pythons_runs import Run, environment, other_pythons, run_tests

ALL = "tests/unit,tests/conformance,tests/console,tests/e2e,tests/faults,tests/wire"


def figures(run: Run, seconds: float) -> dict[str, Any]:
    """Of one version, as they are kept."""
    return {
        "passed": run.passed,
        "skipped": run.skipped,
        "failed": len(run.failed),
        "seconds": round(seconds, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="all", help="folders or files, with commas; or `all`")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    places = (ALL if options.size == "all" else options.size).split(",")
    found: list[str] = []
    told: dict[str, Any] = {}
    for version, python in other_pythons().items():
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="aegis-pythons-") as name:
            run = run_tests(environment(python, Path(name)), places)
        told[version] = figures(run, time.perf_counter() - started)
        found += [f"{version}: {what}" for what in run.failed]
        if run.broke or not run.passed:
            found.append(f"{version}: no run: {run.broke}")
    if not told:
        found.append("there is no other Python on this machine")
    report = {
        "commit": checked_out(),
        "size": options.size,
        "beside": ".".join(map(str, sys.version_info[:3])),
        **told,
        "violations": len(found),
        "first_violations": found[:20],
    }
    return tell(report, options.results)


if __name__ == "__main__":
    sys.exit(main())
