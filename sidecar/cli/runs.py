"""`aegis-sidecar runs show|reset AGENT`: what an agent's run has gathered, and its end, on record.

Asks the running sidecar over control.sock; without one there is nothing to be ended.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from sidecar.cli.control_client import add_connection_arguments, tell

NAME = "runs"
HELP = "show what an agent's run has gathered, or end it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ACTION")
    for verb, what in (("show", "what the run has gathered"), ("reset", "end the run, on record")):
        one = verbs.add_parser(verb, help=what)
        one.add_argument("agent", metavar="AGENT")
        one.add_argument("--tenant", help="if several tenants have an agent of this name")
        one.add_argument("--run-id", default="", help="where a trusted run id divides the work")
        if verb == "reset":
            one.add_argument("--reason", required=True, help="why; it stands beside the receipt")
        one.add_argument("--json", action="store_true", help="one JSON object")
        add_connection_arguments(one)


def run(args: argparse.Namespace) -> int:
    """0 done, 1 refused or nobody answers, 2 for wrong usage."""
    asked = {"agent": args.agent, "tenant": args.tenant, "run_id": args.run_id}
    if args.verb == "reset":
        asked["reason"] = args.reason
    return tell(args, f"/runs/{args.verb}", asked, _lines)


def _lines(said: dict[str, Any]) -> list[str]:
    who = f"{said['tenant']}/{said['agent']}"
    lines = []
    if "unreadable" in said:
        lines.append(f"run   {who}: {said['unreadable']}")
    elif "trust" not in said:
        lines.append(f"run   {who}: nothing gathered")
    else:
        labels = ", ".join(said["labels"]) or "none"
        lines.append(f"run   {who}: trust {said['trust']}; labels {labels}")
        if said["lowered_by"]:
            at = _time(said["lowered_at_us"])
            lines.append(f"      since {said['lowered_by']} at {at}, call {said['lowered_in']}")
        lines.append(f"      began {_time(said['started_us'])}")
        if said["has_ended"]:
            lines.append(
                f"      ended by silence: last call about {_time(said['last_us'])}, "
                "the next begins another run"
            )
    if "seq" in said:
        lines.append(f"ended; receipt {said['seq']} tells of it")
    return lines


def _time(at_us: int | None) -> str:
    if at_us is None:
        return "-"
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="seconds")
