"""`aegis-sidecar containments list|show|undo`: what is contained, and its end.

Asks the running sidecar over control.sock.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from sidecar.cli.alerts import add_before, more_lines
from sidecar.cli.control_client import add_connection_arguments, tell

NAME = "containments"
HELP = "show what is contained, undo it"

_VERBS = {
    "list": "what is contained now, the newest first",
    "show": "one of them: who contained what, why, until when",
    "undo": "end it; an agent it stopped stands as before, unless somebody has changed it since",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ACTION")
    for verb, what in _VERBS.items():
        one = verbs.add_parser(verb, help=what, description=f"{what[0].upper()}{what[1:]}.")
        if verb == "list":
            one.add_argument("--all", action="store_true", help="those that have ended, too")
            add_before(one)
        else:
            one.add_argument("id", metavar="ID")
        if verb == "undo":
            one.add_argument("--reason", default="", help="why; it stands beside the receipt")
        one.add_argument("--tenant", default="", help="only this tenant's")
        one.add_argument("--json", action="store_true", help="one JSON object")
        add_connection_arguments(one)


def run(args: argparse.Namespace) -> int:
    """0 done, 1 refused or nobody answers, 2 for wrong usage."""
    asked = {
        name: getattr(args, name)
        for name in ("id", "all", "reason", "tenant", "before")
        if hasattr(args, name)
    }
    return tell(args, f"/containments/{args.verb}", asked, _listed if "all" in asked else lines_of)


def lines_of(said: dict[str, Any]) -> list[str]:
    """A containment, as people read it."""
    lines = [
        f"{said['containment_id']}  {said['state']}",
        f"  {said['action']}  {said['subject']}  ({said['tenant']})",
        f"  by {said['actor']} at {_time(said['started_us'])}, {_end(said)}",
    ]
    if said["reason"]:
        lines.append(f"  why: {said['reason']}")
    if said["incident_id"]:
        lines.append(f"  incident {said['incident_id']}")
    if said.get("agent_state"):
        lines.append(f"  the agent is {said['agent_state']}")
    if said.get("seq") is not None:
        lines.append(f"  receipt {said['seq']} of {said['tenant']} tells of it")
    if said.get("remark"):
        lines.append(f"  note: {said['remark']}")
    return lines


def _listed(said: dict[str, Any]) -> list[str]:
    if not said["containments"]:
        return ["nothing is contained"]
    lines = [
        f"{one['containment_id']}  {one['state']:<8} {one['action']:<17} "
        f"{one['tenant']}  {one['subject']}  {_end(one)}"
        for one in said["containments"]
    ]
    return lines + more_lines(said, said["containments"][-1]["containment_id"])


def _end(said: dict[str, Any]) -> str:
    if said["state"] == "final":
        return "for good"
    return f"until {_time(said['until_us'])}" if said["until_us"] else "until it is undone"


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="seconds")
