"""The policies' benchmarks, whole: decisions beside cedarpy, pycasbin and regopy, and loading.

    bash tests/full.sh policy [SIZE]
    .venv-test/bin/python tests/bench/policy_full.py [--only PART ...]

SIZE is small, default or large: rounds, seconds and rules grow. Engines are asked the same calls by
the same rules in slices that take turns; `lines` sets the figures beside the lines they are held
to. Nothing passes or fails by time: machines differ. Results are kept after each part, so that a
run that is cut short leaves what it has.
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

import policy_load_speed
import policy_speed
from bench_machine import commit, machine
from policy_engines import PEERS
from policy_rules import KINDS, SHARED
from policy_speed import Effort


@dataclass(frozen=True)
class Size:
    """How much is done."""

    effort: Effort
    rounds: int
    loaded_rules: int
    quiet_s: float


SIZES = {
    "small": Size(Effort(rounds=2, slice_s=0.005, sizes=(1, 30)), 1, 300, 0.2),
    "default": Size(Effort(7, 0.1, (1, 100, 1_000, 10_000)), 5, 5_000, 2.0),
    "large": Size(Effort(15, 0.25, (1, 100, 1_000, 10_000)), 9, 10_000, 5.0),
}

PARTS: dict[str, Callable[[Size], dict[str, Any]]] = {
    "decisions": lambda size: policy_speed.by_kind(size.effort),
    "loading": lambda size: policy_load_speed.time_of(size.loaded_rules, size.rounds),
    "lateness": lambda size: policy_load_speed.lateness(
        size.loaded_rules, size.rounds, size.quiet_s
    ),
}

#: Figure, whether more is better, line.
LINES: tuple[tuple[str, bool, float], ...] = (
    ("decisions.structured.worst_us", False, 10),
    ("decisions.plain.worst_us", False, 30),
    ("decisions.cel.worst_us", False, 30),
    ("decisions.pattern.worst_us", False, 30),
    *((f"decisions.{kind}.ratio_1000_to_1", False, 1.3) for kind in KINDS),
    *((f"decisions.{kind}.ratio_10000_to_1", False, 1.3) for kind in KINDS),
    *((f"decisions.{kind}.least_times_{peer}", True, 1) for kind in SHARED for peer in PEERS),
    ("loading.cpu_s", False, 2),
    ("loading.wall_s", False, 2),
    ("lateness.extra_p99_ms", False, 10),
    ("lateness.extra_max_ms", False, 50),
)


def lines(figures: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every figure that was measured, beside its line."""
    for name, more_is_better, line in LINES:
        value: Any = figures
        for key in name.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            holds = value >= line if more_is_better else value <= line
            yield {"figure": name, "value": value, "line": line, "holds": holds}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=sorted(SIZES), default="default")
    parser.add_argument("--only", action="append", choices=sorted(PARTS), metavar="PART")
    parser.add_argument("--results", type=Path, help="other parts already in it are kept")
    options = parser.parse_args()
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
