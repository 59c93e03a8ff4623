"""Generated policy sets and calls, judged by the product and by a second evaluator: no difference.

    bash tests/full.sh differential [CASES]     (default 200,000; the default test run takes 20,000)

The second evaluator (`twin*.py`) was written from LANGUAGE.md alone, over plain data: every rule
looked at, nothing indexed, nothing kept. Compared are effect, code, the rule that names the
decision, mode, whether it goes ahead, every rule that matched or failed, what shadow rules would
make of it, obligations, approvals, what limits count in which bucket, and whether the run is read.
Each difference comes with the least files and call that still show it. `--planted NAME` puts a
fault into the product; then the run must find it.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT), str(ROOT / "tests")]

from differential_planted import FAULTS, planted
from differential_run import run
from full_report import checked_out, tell

from sidecar.clock import Clock

#: From here on every class of cases must have occurred.
COVERS_FROM = 50_000
CALLS_PER_SET = 100


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=200_000, help="cases")
    parser.add_argument("--seed", type=int, default=Clock().now_us() % 1_000_000)
    parser.add_argument("--planted", choices=list(FAULTS))
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    started = time.perf_counter()
    with planted(options.planted) if options.planted else contextlib.nullcontext():
        report = run(options.size, options.seed, calls_per_set=CALLS_PER_SET)
    violations = [*report.violations]
    if options.size >= COVERS_FROM:
        violations += [f"too seldom: {name}" for name in report.coverage.missing()]
    figures: dict[str, Any] = {
        "commit": checked_out(),
        "size": options.size,
        "seed": options.seed,
        "planted": options.planted,
        "seconds": round(time.perf_counter() - started, 1),
        "cases": report.cases,
        "sets": report.sets,
        "rules": report.rules,
        "refused_sets": report.refused_sets,
        "refused_rules": report.refused_rules,
        "refusals": dict(report.refusals.most_common(10)),
        "coverage": dict(sorted(report.coverage.counted.items())),
        "differing": dict(report.differing),
        "violations": len(violations),
        "first_violations": violations[:10],
    }
    return tell(figures, options.results)


if __name__ == "__main__":
    sys.exit(main())
