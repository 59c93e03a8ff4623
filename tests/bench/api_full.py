"""The control API at full size: lists over very many calls on both engines, and schemathesis.

    bash tests/full.sh api [SIZE]     .venv/bin/python tests/bench/api_full.py [--only PART ...]

SIZE is small, default or large. A p99 over its line is told of and is no violation: machines
differ.
What schemathesis finds is one. Results are kept after each part.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import api_lists
import api_schemathesis
import postgres_server
from bench_cluster import durable_cluster
from bench_machine import commit, machine
from full_report import tell

#: Milliseconds that no page may take longer than, of a hundred.
LINE_P99_MS = 50
#: The same of a page of the console.
CONSOLE_LINE_P99_MS = 300


@dataclass(frozen=True)
class Size:
    """Calls in the store, rounds over all pages; examples a route and seconds for each key."""

    calls: int
    rounds: int
    examples: int
    seconds: int


SIZES = {
    "small": Size(5_000, 5, 3, 20),
    "default": Size(1_000_000, 300, 50, 300),
    "large": Size(4_000_000, 1000, 300, 1800),
}


def sqlite(size: Size) -> dict[str, Any]:
    """Lists over a file."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/aegis.db"
        return asyncio.run(api_lists.run(url, size.calls, size.rounds))


def postgres(size: Size) -> dict[str, Any]:
    """Lists over a server whose commits are durable."""

    async def measured(dsn: str) -> dict[str, Any]:
        url = await postgres_server.new_database(dsn)
        return await api_lists.run(url, size.calls, size.rounds)

    with durable_cluster() as dsn:
        return asyncio.run(measured(dsn))


PARTS: dict[str, Callable[[Size], dict[str, Any]]] = {
    "sqlite": sqlite,
    "postgres": postgres,
    "schemathesis": lambda size: api_schemathesis.run(size.examples, size.seconds),
}


def main() -> int:
    """1 if something was found that must not be."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=sorted(SIZES), default="default")
    parser.add_argument("--only", action="append", choices=sorted(PARTS), metavar="PART")
    parser.add_argument("--results", type=Path, help="other parts already in it are kept")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    if options.only and options.results and options.results.exists():
        figures = json.loads(options.results.read_text())
    figures.update(
        commit=commit(),
        size=options.size,
        machine=machine(),
        line_p99_ms=LINE_P99_MS,
        console_line_p99_ms=CONSOLE_LINE_P99_MS,
    )
    for name in options.only or PARTS:
        started = time.perf_counter()
        figures[name] = PARTS[name](SIZES[options.size])
        figures[name].update(commit=commit(), took_s=round(time.perf_counter() - started, 1))
        if options.results:
            options.results.write_text(json.dumps(figures, indent=2) + "\n")
    figures["violations"] = figures.get("schemathesis", {}).get("violations", [])
    return tell(figures, options.results)


if __name__ == "__main__":
    sys.exit(main())
