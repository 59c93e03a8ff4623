"""`aegis-sidecar store status`: where the store's limit is, the headroom, the trend, what to do."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from sidecar.cli.control_client import Unreachable, add_connection_arguments, ask

NAME = "status"
HELP = "where the limit is, the headroom, the trend, and what to do"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the sidecar runs, and the form of the answer."""
    add_connection_arguments(parser)
    parser.add_argument("--json", action="store_true", help="the numbers as one JSON object")


def run(args: argparse.Namespace) -> int:
    """0 if the store commits, 1 if it does not or nobody answers, 2 for wrong usage."""
    try:
        store = ask(args, "GET", "/status")["store"]
    except Unreachable as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(store) if args.json else "\n".join(lines_of(store)))
    return 0 if store["healthy"] else 1


def lines_of(store: dict[str, Any]) -> list[str]:
    """The store's part of the status in words. A sidecar of another version may say less."""
    lines = [store["sentence"]]
    if store.get("cause"):
        lines += [f"cause: {store['cause']}", f"    {store['next_step']}"]
    lines += [text for key in ("trend", "advice") if (text := store.get(key))]
    if store["ceiling_calls_per_s"] > 0:
        lines.append(
            f"A commit takes about {store['commit_fixed_s'] * 1e3:.2f} ms and "
            f"{store['commit_per_call_s'] * 1e6:.0f} µs for each call in it "
            f"(at most {store['largest_batch_calls']:.0f})."
        )
    peaks = (
        store.get("peak_utilisation_of_last_day", 0.0),
        store.get("peak_loop_busy_of_last_day", 0.0),
    )
    if max(peaks) > 0:
        lines.append(
            f"Busiest minute of the last day: {peaks[0]:.0%} of the store, {peaks[1]:.0%} of the "
            "process."
        )
    lines.append(store.get("calibrated") or _not_kept(store["engine"]))
    lines += [text for text in [store.get("backed_up")] if text]
    lines.append(
        f"{store['engine']} {store['engine_version']}, {size(store['file_bytes'])}, "
        f"write-ahead log {size(store['wal_bytes'])}."
    )
    return lines + [f"warning: {warning}" for warning in store["warnings"]]


def _not_kept(engine: str) -> str:
    if engine == "sqlite":
        return "Calibrated briefly at start; `store calibrate` measures longer and keeps it."
    return "Not calibrated: the ceiling is what the traffic lets one expect."


def size(count: int) -> str:
    """A number of bytes for people."""
    for unit, bytes_of_unit in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if count >= bytes_of_unit:
            return f"{count / bytes_of_unit:.1f} {unit}"
    return f"{count} B"
