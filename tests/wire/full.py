"""Mutated requests through a real sidecar to five parsers: all read what the decision was made on.

    bash tests/full.sh wire [REQUESTS]      (default 500,000; the default test run takes 1,000)

The requests, the sidecar and all invariants are those of the fuzz run (tests/fuzz). Its upstreams
hand every byte to nginx, HAProxy, Node's http, h11 and aiohttp, each over a connection of its own
per connection of the sidecar's. For each request that was forwarded, what each parser read
(method, target, decoded path, query, headers, body, and JSON by its own reader) is held against the
bytes, and against the one committed intent: operation, path, query names, arguments, and the
digest of the body under the receipt's salt. A parser that waits for more, or reads one request
more, is a violation; one that refuses is counted. `--planted NAME` runs a sidecar with a fault
built in; then the run must find it.
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
sys.path[:0] = [
    str(HERE), str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "e2e"),
    str(ROOT / "tests" / "fuzz"),
]  # fmt: skip

from full_report import checked_out, tell
from fuzz_run import run
from wire_planted import FAULTS
from wire_run import ALL, WireRun

from sidecar.clock import Clock


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=500_000, help="requests")
    parser.add_argument("--seed", type=int, default=Clock().now_us() % 1_000_000)
    parser.add_argument("--planted", choices=list(FAULTS))
    parser.add_argument("--parsers", default=",".join(ALL), help="names, with commas")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    started = time.perf_counter()
    runs: list[WireRun] = []

    class Chosen(WireRun):
        chosen = tuple(options.parsers.split(","))

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            runs.append(self)

    report = asyncio.run(run(options.size, options.seed, options.planted, False, Chosen))
    wire = runs[0]
    figures: dict[str, Any] = {
        "commit": checked_out(),
        "size": options.size,
        "seed": options.seed,
        "planted": options.planted,
        "seconds": round(time.perf_counter() - started, 1),
        "requests": report.requests,
        "answers": {str(status): count for status, count in sorted(report.answers.items())},
        "mutants_forwarded": report.mutants_forwarded,
        "controls": report.controls,
        "arrivals": report.arrivals,
        "readings": dict(wire.readings),
        "json_readings": dict(wire.json_readings),
        "refused_by_a_parser": dict(wire.refusals),
        "receipts": report.receipts,
        "slowest_s": round(report.slowest_s, 2),
        "violations": len(report.violations),
        "violations_by_parser": wire.violations_by_parser(),
        "first_violations": report.violations[:10],
    }
    return tell(figures, options.results)


if __name__ == "__main__":
    sys.exit(main())
