"""What a call costs while the sidecar carries half of what it can: latencies, open loop.

Requests leave on schedule, at the same rate to the bare pass-through and to the sidecar in turn.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import targets

#: Fills the call up to about 300 bytes.
NOTE_BYTES = 150


def measure(
    bare: targets.Target,
    sidecar: targets.Target,
    load_core: str,
    rate_per_s: float,
    effort: tuple[int, float],
) -> dict[str, Any]:
    """Medians of the rounds; what is added at the median and at the 99th percentile, in ms."""
    rounds, seconds = effort
    seen: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for _ in range(rounds):
        for target in (bare, sidecar):
            seen[target.name].append(_offer(target, load_core, rate_per_s, seconds))

    def of(name: str, key: str) -> float:
        return median(float(one[key]) for one in seen[name])

    figures = {
        f"{name}_{key}": of(name, f"answered_{key}")
        for name in seen
        for key in ("p50_ms", "p99_ms")
    }
    return {
        "offered_per_s": round(rate_per_s),
        "refused_per_s": of("sidecar", "refused_per_s"),
        **figures,
        "added_p50_ms": round(figures["sidecar_p50_ms"] - figures["bare_p50_ms"], 2),
        "added_p99_ms": round(figures["sidecar_p99_ms"] - figures["bare_p99_ms"], 2),
    }


def _offer(target: targets.Target, core: str, rate_per_s: float, seconds: float) -> dict[str, Any]:
    where = urlsplit(target.url)
    done = subprocess.run(
        ["taskset", "-c", core, sys.executable, str(targets.HERE / "open_loop.py"),
         str(where.hostname), str(where.port), target.path, str(rate_per_s), str(seconds),
         str(NOTE_BYTES)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures
