"""What is noticed survives kill -9, and noticing slows no decision.

    bash tests/full.sh soc [KILLS]        (default 200; the default test run takes a few)

`watch_kill` kills the process that watches, on a file and on PostgreSQL, and holds the alerts
against the record; `watch_burst` measures what 20,000 events in a burst cost the decisions, and
that none of them is lost. `--planted NAME` runs a sidecar with a fault built in; then the run must
find it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
for folder in (HERE, ROOT / "tests" / "e2e", ROOT / "tests", ROOT):
    sys.path.insert(0, str(folder))

import postgres_server
from full_report import checked_out, tell
from watch_burst import ROUNDS, Burst, run_burst
from watch_kill import Report, run_on_a_file, run_on_postgres
from watch_planted import FAULTS

from sidecar.clock import Clock

#: Kills of one store, then another begins: alerts and receipts are read whole at its end.
KILLS_A_STORE = 10
#: One kill on PostgreSQL for so many on a file: each waits for a lease to run out.
FILE_KILLS_A_POSTGRES_KILL = 10
EVENTS = 20_000
SLOWER_MAX = 0.05


async def kill(options: argparse.Namespace, folder: Path) -> Report:
    report, left = Report(), options.size
    while left > 0 and not report.violations:
        kills = min(left, KILLS_A_STORE)
        left -= kills
        place = folder / f"store{left}"
        await run_on_a_file(place, kills, options.seed + left, options.planted or "", report)
    if not options.planted and not report.violations and options.postgres:
        kills = max(1, options.size // FILE_KILLS_A_POSTGRES_KILL)
        with postgres_server.new_cluster() as cluster:
            cluster.initialise()
            cluster.start()
            url = await postgres_server.new_database(cluster.dsn())
            await run_on_postgres(folder / "pair", url, kills, options.seed, report)
    return report


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=200, help="kills")
    parser.add_argument("--seed", type=int, default=Clock().now_us() % 1_000_000)
    parser.add_argument("--events", type=int, default=EVENTS, help="of the burst; 0 for none")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of the burst")
    parser.add_argument("--postgres", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--planted", choices=FAULTS)
    parser.add_argument("--untimed", action="store_true", help="nothing is compared")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    burst: Burst | None = None
    with tempfile.TemporaryDirectory(prefix="aegis-soc-") as name:
        report = asyncio.run(kill(options, Path(name)))
        if options.events and not options.planted:
            burst = asyncio.run(
                run_burst(Path(name), options.events, options.rounds, is_timed=not options.untimed)
            )
    violations = list(report.violations)
    if burst is not None:
        violations += burst.violations
        if burst.slower > SLOWER_MAX:
            violations.append(f"decisions are slower by {burst.slower:.1%}")
    figures: dict[str, Any] = {
        "commit": checked_out(),
        "size": options.size,
        "seed": options.seed,
        "planted": options.planted,
        "kills": report.kills,
        "stops": report.stops,
        "calls": report.calls,
        "hits": report.hits,
        "takeovers": report.takeovers,
        "takeover_s_max": round(report.takeover_s_max, 1),
        "burst": burst.figures() if burst is not None else None,
        "violations": len(violations),
        "first_violations": violations[:5],
    }
    return tell(figures, options.results)


if __name__ == "__main__":
    sys.exit(main())
