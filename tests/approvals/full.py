"""10,000 approvals, each raced for by 64 spenders at two nodes of one PostgreSQL: one winner each.

bash tests/full.sh approvals [APPROVALS]      (default 10000; the default test run takes 500, by 16)
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]

import postgres_server
from approval_races import Raced, node, race
from full_report import checked_out, tell

SPENDERS = 64


async def _raced(approvals: int) -> Raced:
    with postgres_server.server() as dsn:
        url = await postgres_server.new_database(dsn)
        async with node(url, "one") as one, node(url, "two") as two:
            return await race([one, two], approvals, SPENDERS)


def main() -> int:
    """0 if each had exactly one winner."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    raced = asyncio.run(_raced(args.size))
    wrong = args.size - raced.winners.count(1)
    said = {"commit": checked_out(), "spenders": SPENDERS, "nodes": 2, **raced.figures}
    return tell({**said, "violations": wrong}, args.results)


if __name__ == "__main__":
    sys.exit(main())
