"""The benchmark, whole: proxies side by side, policy decisions, the store API.

    tests/bench/run.sh [--json] [--size SIZE] [--only proxies|policy|store|streams|overload]

SIZE is small, default or large: rounds and seconds grow. Nothing here passes or fails by time;
tests read the ratios. Figures are printed as a table, or as one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import overload
import policy_speed
import proxies
import store_speed
import streams
from bench_machine import commit, machine

PARTS = ("policy", "store", "proxies", "streams", "overload")
#: How long the store API and the raw loop take turns.
STORE_SLICE_S = {"small": 0.5, "default": 3, "large": 5}
EFFORT: dict[str, tuple[int, int]] = {"small": (2, 2), "default": (5, 3), "large": (9, 5)}


def table(figures: dict[str, Any]) -> str:
    lines = [f"{figures['machine']['cpu']}, {figures['machine']['cores']} cores, "
             f"Python {figures['machine']['python']}, commit {figures['commit']}"]  # fmt: skip
    if "proxies" in figures:
        measured = figures["proxies"]
        lines += ["", "| proxy | at once | requests/s | p50 ms | p99 ms | CPU µs/request |",
                  "| --- | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
        for name, levels in measured["targets"].items():
            for level, row in levels.items():
                lines.append(
                    f"| {name} | {level[1:]} | {row['requests_per_s']:.0f} | {row['p50_ms']:.2f} "
                    f"| {row['p99_ms']:.2f} | {row['cpu_us']:.0f} |"
                )
        lines += [""] + [
            f"{key}: {value}" for key, value in measured.items() if key not in ("targets",)
        ]
    for part in ("policy", "store", "streams", "overload"):
        if part in figures:
            lines += ["", part] + [f"  {key}: {value}" for key, value in figures[part].items()]
    return "\n".join(lines)


def _kept(options: argparse.Namespace, figures: dict[str, Any]) -> dict[str, Any]:
    """What the file is to say: a part measured alone takes the place of that part, the others stay
    as they were, each under the commit it was measured at."""
    before: dict[str, Any] = {}
    if options.only and options.results.exists():
        before = json.loads(options.results.read_text())
    commits = before.get("commits", {})
    commits |= {part: figures["commit"] for part in PARTS if part in figures}
    return before | figures | {"commits": commits}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--size", choices=sorted(EFFORT), default="default")
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    rounds, seconds = EFFORT[options.size]
    figures: dict[str, Any] = {"commit": commit(), "size": options.size, "machine": machine()}
    if options.only in (None, "policy"):
        figures["policy"] = policy_speed.run(policy_speed.ALONE[options.size])
    if options.only in (None, "store"):
        figures["store"] = store_speed.run(STORE_SLICE_S[options.size])
    if options.only in (None, "proxies"):
        figures["proxies"] = proxies.run(
            rounds, seconds, sys.executable, with_peers=options.size != "small"
        )
        figures["ratio_to_bare_aiohttp_c32"] = figures["proxies"]["ratio_to_bare_aiohttp_c32"]
    if options.only in (None, "streams"):
        figures["streams"] = streams.run(streams.SIZES[options.size])
    if options.only in (None, "overload"):
        figures["overload"] = overload.run(seconds)
    text = json.dumps(figures, indent=2)
    if options.results:
        options.results.write_text(json.dumps(_kept(options, figures), indent=2) + "\n")
    print(text if options.json else table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
