"""The store's benchmarks, whole: speed, tail, overload, age, size and memory, on both engines.

    bash tests/full.sh store [SIZE]     .venv/bin/python tests/bench/store_full.py [--only PART ...]

SIZE is small, default or large: rounds, seconds and rows grow. Each figure is measured beside its
yardstick in the same run, in slices that take turns; `lines` sets them beside the lines they are
held to and the goals. Nothing passes or fails by time: machines differ. Results are kept after
each part, so that a run that is cut short leaves what it has.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import bytes_on_disk
import commit_tail
import memory
import postgres_speed
import process_speed
import store_age
import store_calls
import store_overload
import store_speed
import verify_speed
from bench_machine import commit, machine


@dataclass(frozen=True)
class Size:
    """How much is done: rounds and seconds of slices, rows and calls where they count."""

    rounds: int
    seconds: float
    aged_receipts: int
    calls_on_disk: int
    store_calls: int
    proxied_calls: int
    verified_receipts: int


SIZES = {
    "small": Size(2, 0.25, 30_000, 2_000, 9_000, 2_000, 20_000),
    "default": Size(7, 1.5, 5_000_000, 20_000, 300_000, 1_000_000, 400_000),
    "large": Size(15, 3.0, 10_000_000, 100_000, 1_000_000, 2_000_000, 2_000_000),
}

PARTS: dict[str, Callable[[Size], dict[str, Any]]] = {
    "sqlite": lambda size: store_speed.run(size.seconds, size.rounds),
    "postgres": lambda size: postgres_speed.run(size.seconds, size.rounds),
    "processes": lambda size: process_speed.run(size.seconds, size.rounds),
    "overload": lambda size: store_overload.run(size.seconds, size.rounds),
    "tail": lambda size: commit_tail.run(size.seconds, size.rounds),
    "bytes": lambda size: bytes_on_disk.run(size.calls_on_disk),
    "verify": lambda size: verify_speed.run(max(2, size.rounds // 2), size.verified_receipts),
    "memory": lambda size: memory.run(size.store_calls, size.proxied_calls),
    "age": lambda size: store_age.run(size.seconds, size.rounds, size.aged_receipts),
}

#: Figure, whether more is better, line, goal (None: the line is the goal).
LINES: tuple[tuple[str, bool, float, float | None], ...] = (
    ("sqlite.ratio_to_raw_loop_256", True, 0.3, 0.5),
    ("postgres.ratio_to_raw_insert", True, 0.4, 0.6),
    ("processes.ratio_four_on_one_tenant", True, 0.8, None),
    ("processes.ratio_four_on_16_tenants", True, 1.4, None),
    ("overload.sqlite.kept_ratio", True, 0.8, None),
    ("overload.sqlite.refused_p99_ms", False, 50, None),
    ("overload.postgres.kept_ratio", True, 0.8, None),
    ("overload.postgres.refused_p99_ms", False, 50, None),
    ("tail.batch_of_16.p99_to_line", False, 1, None),
    ("tail.half_load.p99_to_line", False, 1, None),
    ("age.ratio_full_to_empty", True, 0.9, None),
    ("bytes.sqlite.total", False, 2000, 1400),
    ("bytes.postgres.total", False, 2000, 1400),
    ("memory.store_sqlite.slope_mb_per_100k_calls", False, 1, None),
    ("memory.store_postgres.slope_mb_per_100k_calls", False, 1, None),
    ("memory.sidecar.slope_mb_per_100k_calls", False, 1, None),
    ("memory.sidecar.rss_mb_at_end", False, 120, 90),
    ("verify.receipts_per_s", True, 50_000, 100_000),
)


def lines(figures: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every figure that was measured, beside its line and its goal."""
    for name, more_is_better, line, goal in LINES:
        value: Any = figures
        for key in name.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value is None:
            continue

        def holds(bound: float, value: float = value, is_floor: bool = more_is_better) -> bool:
            return value >= bound if is_floor else value <= bound

        said = {"figure": name, "value": value, "line": line, "holds": holds(line)}
        if goal is not None:
            said.update(goal=goal, reaches_goal=holds(goal))
        yield said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=sorted(SIZES), default="default")
    parser.add_argument("--only", action="append", choices=sorted(PARTS), metavar="PART")
    parser.add_argument("--results", type=Path, help="other parts already in it are kept")
    options = parser.parse_args()
    store_calls.as_the_sidecar()
    figures: dict[str, Any] = {}
    if options.only and options.results and options.results.exists():
        figures = json.loads(options.results.read_text())
    figures.update(commit=commit(), size=options.size, machine=machine())
    for name in options.only or PARTS:
        started = time.perf_counter()
        figures[name] = PARTS[name](SIZES[options.size])
        figures[name].update(commit=commit(), took_s=round(time.perf_counter() - started, 1))
        figures["lines"] = list(lines(figures))
        if options.results:
            options.results.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
