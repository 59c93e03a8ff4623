"""Mutated requests over sockets: nothing unclear is forwarded, nothing breaks, all is on record.

    bash tests/full.sh fuzz [REQUESTS]        (default 1,000,000; the default test run takes 1,500)

One real sidecar (default deny) in front of a REST and an MCP upstream that keep what they receive.
Each seed is sent once as it is and must fare as it says; then come mutations of them, and every
50th request is a valid call that must be answered 200. Invariants: never a 500, never a parser's
words in an answer, no wait beyond 10 s, the process lives and is ready; what reached an upstream
was sent so by a strict reading, is allowed by our own reading, and has one committed intent that
commits to its body and path; receipts verify offline. `--planted NAME` runs a sidecar with a
fault built in; then the run must find it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "e2e")]

from full_report import checked_out, tell
from fuzz_run import run

from sidecar.clock import Clock

PLANTED = ("lenient-json", "raw-path", "lenient-framing", "lenient-form",
           "header-disagreement", "inner-words", "no-record")  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=1_000_000, help="requests")
    parser.add_argument("--seed", type=int, default=Clock().now_us() % 1_000_000)
    parser.add_argument("--planted", choices=PLANTED)
    parser.add_argument(
        "--only-mutants", action="store_true", help="leave the seeds as they are out"
    )
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    started = time.perf_counter()
    report = asyncio.run(run(options.size, options.seed, options.planted, options.only_mutants))
    figures: dict[str, Any] = {
        "commit": checked_out(),
        "size": options.size,
        "seed": options.seed,
        "planted": options.planted,
        "seconds": round(time.perf_counter() - started, 1),
        "requests": report.requests,
        "answers": {str(status): count for status, count in sorted(report.answers.items())},
        "closed_without_answer": report.closed_without_answer,
        "mutants_forwarded": report.mutants_forwarded,
        "controls": report.controls,
        "arrivals": report.arrivals,
        "receipts": report.receipts,
        "slowest_s": round(report.slowest_s, 2),
        "violations": len(report.violations),
        "first_violations": report.violations[:10],
    }
    return tell(figures, options.results)


if __name__ == "__main__":
    sys.exit(main())
