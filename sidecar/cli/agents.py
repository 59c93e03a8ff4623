"""`aegis-sidecar agents …`: who may call, and how they stand; each change on record.

Asks the running sidecar over control.sock. A token is printed once, when it is made.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from sidecar.cli.control_client import add_connection_arguments, tell

NAME = "agents"
HELP = "list agents, register, freeze or revoke them, give them tokens"

MOVES = {
    "freeze": "refuse its calls until it is unfrozen",
    "unfreeze": "end a freeze",
    "quarantine": "refuse its calls until it is restored",
    "restore": "end a quarantine",
    "revoke": "end it for good; it is answered as if it were unknown",
    "delete": "end it for good, and its name with it",
}
RISKS = ("low", "medium", "high", "critical")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ACTION")
    known = {
        "list": "all agents",
        "show": "one agent, and what was done to it",
        "register": "a new agent; its token is printed once",
        **MOVES,
        "rotate-token": "a new token, printed once; the old one counts for nothing from now on",
    }
    for verb, what in known.items():
        one = verbs.add_parser(verb, help=what, description=f"{what[0].upper()}{what[1:]}.")
        if verb != "list":
            one.add_argument("agent", metavar="AGENT")
        one.add_argument("--tenant", default="", help="if there are several")
        if verb == "register":
            one.add_argument("--team", default="", help="the team rules know it by")
            one.add_argument("--environment", default="", help="the environment, likewise")
            one.add_argument(
                "--risk", default="medium", choices=RISKS, help="its risk (default: medium)"
            )
            one.add_argument("--trust", default="", help="the trust its runs start with")
        if verb not in ("list", "show"):
            one.add_argument("--reason", default="", help="why; it stands beside the receipt")
        one.add_argument("--json", action="store_true", help="one JSON object")
        add_connection_arguments(one)


def run(args: argparse.Namespace) -> int:
    """0 done, 1 refused or nobody answers, 2 for wrong usage."""
    asked = {
        name: getattr(args, name)
        for name in ("agent", "tenant", "reason", "team", "environment", "risk", "trust")
        if hasattr(args, name)
    }
    path = args.verb
    if path in MOVES:
        path, asked["move"] = "move", args.verb
    return tell(args, f"/agents/{path}", asked, _listed if args.verb == "list" else _shown)


def _listed(said: dict[str, Any]) -> list[str]:
    rows = [
        (f"{one['tenant']}/{one['agent']}", one["state"], _ways(one), one["source"])
        for one in said["agents"]
    ]
    widths = [max((len(row[at]) for row in rows), default=0) for at in range(3)]
    return [
        "  ".join((*(row[at].ljust(widths[at]) for at in range(3)), row[3])) for row in rows
    ] or ["there are no agents"]


def _shown(said: dict[str, Any]) -> list[str]:
    lines = [
        f"agent  {said['tenant']}/{said['agent']}: {said['state']}",
        f"       comes by {_ways(said)}; risk {said['risk']}, trust {said['trust']}, "
        f"team {said['team'] or 'none'}, environment {said['environment'] or 'none'}",
    ]
    for one in said.get("changes", ()):
        reason = f": {one['reason']}" if one["reason"] else ""
        lines.append(
            f"       {_time(one['at_us'])} {one['action']} by {one['actor']} "
            f"(receipt {one['seq']}){reason}"
        )
    if "token" in said:
        lines.append(f"token  {said['token']}")
        lines.append("       shown once, kept as a hash: send it as the header Aegis-Token")
    if said.get("seq") is not None:
        lines.append(f"receipt {said['seq']} of {said['tenant']} tells of it")
    elif "seq" in said:
        lines.append("it stood so already; nothing was changed")
    return lines


def _ways(one: dict[str, Any]) -> str:
    names = {"without": "no credential at all"}
    return ", ".join(names.get(way, way) for way in one["credentials"]) or "no way yet"


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="seconds")
