"""`aegis-sidecar store status`: how near the store is to its limit, in a sentence."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from sidecar.cli.control_client import Unreachable, add_connection_arguments, ask

NAME = "store"
HELP = "say how near the store is to its limit"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """status."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    status = actions.add_parser("status", help="where the limit is, and the headroom")
    add_connection_arguments(status)
    status.add_argument("--json", action="store_true", help="the numbers as one JSON object")


def run(args: argparse.Namespace) -> int:
    """0 if the store commits, 1 if it does not or nobody answers, 2 for wrong usage."""
    try:
        store = ask(args, "GET", "/status")["store"]
    except Unreachable as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(store) if args.json else "\n".join(_lines(store)))
    return 0 if store["healthy"] else 1


def _lines(store: dict[str, Any]) -> list[str]:
    lines = [store["sentence"]]
    if store["ceiling_calls_per_s"] > 0:
        lines.append(
            f"A commit takes about {store['commit_fixed_s'] * 1e3:.2f} ms and "
            f"{store['commit_per_call_s'] * 1e6:.0f} µs for each call in it "
            f"(at most {store['largest_batch_calls']:.0f})."
        )
    lines.append(
        f"{store['engine']} {store['engine_version']}, {_size(store['file_bytes'])}, "
        f"write-ahead log {_size(store['wal_bytes'])}."
    )
    return lines + [f"warning: {warning}" for warning in store["warnings"]]


def _size(count: int) -> str:
    for unit, bytes_of_unit in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if count >= bytes_of_unit:
            return f"{count / bytes_of_unit:.1f} {unit}"
    return f"{count} B"
