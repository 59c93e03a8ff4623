"""`aegis-sidecar alerts list|show|acknowledge|close`: what detections noticed.

Asks the running sidecar over control.sock.
"""

from __future__ import annotations

import argparse
from typing import Any

from sidecar.cli.chosen_store import time_text
from sidecar.cli.control_client import add_connection_arguments, tell
from sidecar.cli.terminal_text import fit
from sidecar.counted import counted

NAME = "alerts"
HELP = "list alerts, show one with what it rests on, acknowledge or close it"

SEVERITIES = ("info", "low", "medium", "high", "critical")
_VERBS = {
    "list": "the newest alerts",
    "show": "one of them, with the receipts it rests on",
    "acknowledge": "say that somebody looks at it, on record",
    "close": "end it, on record; later hits raise another",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ACTION")
    for verb, what in _VERBS.items():
        one = verbs.add_parser(verb, help=what, description=f"{what[0].upper()}{what[1:]}.")
        if verb == "list":
            add_filters(one, ("open", "acknowledged", "closed"))
            one.add_argument("--detection", default="", help="only those of this detection")
        else:
            one.add_argument("id", metavar="ALERT")
        if verb in ("acknowledge", "close"):
            one.add_argument("--reason", default="", help="why; it stands in the record")
        add_usual(one)


def add_filters(parser: argparse.ArgumentParser, states: tuple[str, ...]) -> None:
    """Which of many."""
    parser.add_argument("--state", default="", choices=states, help="only those in this state")
    parser.add_argument(
        "--severity", default="", choices=SEVERITIES, help="only those of exactly this severity"
    )
    parser.add_argument("--agent", default="", help="only those about this agent")
    add_before(parser)


def add_before(parser: argparse.ArgumentParser) -> None:
    """How a long list goes on."""
    parser.add_argument("--before", default="", metavar="ID", help="only older ones than this")


def more_lines(said: dict[str, Any], last_id: str) -> list[str]:
    """That there are older ones than are listed, and how they are."""
    return [f"there are older ones: --before {last_id}"] if said.get("has_more") else []


def add_usual(parser: argparse.ArgumentParser) -> None:
    """What every verb takes."""
    parser.add_argument("--tenant", default="", help="only this tenant's")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_connection_arguments(parser)


def asked_of(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The last segment of the path, and what is asked: moves go one way."""
    names = ("id", "tenant", "state", "severity", "agent", "detection", "reason", "before")
    asked = {name: getattr(args, name) for name in names if hasattr(args, name)}
    if args.verb in ("list", "show"):
        return args.verb, asked
    return "move", {**asked, "move": args.verb}


def run(args: argparse.Namespace) -> int:
    """0 done, 1 refused or nobody answers, 2 for wrong usage."""
    path, asked = asked_of(args)
    return tell(args, f"/alerts/{path}", asked, _listed if args.verb == "list" else alert_lines)


def _listed(said: dict[str, Any]) -> list[str]:
    if not said["alerts"]:
        return ["there are no alerts"]
    lines = [alert_line(one) for one in said["alerts"]]
    return lines + more_lines(said, said["alerts"][-1]["alert_id"])


def alert_line(one: dict[str, Any]) -> str:
    """An alert in one line."""
    return (
        f"{one['alert_id']}  {one['state']:<12} {one['severity']:<8} "
        f"{time_text(one['last_us'])}  {one['detection']}: {fit(one['reason'])}  "
        f"({one['tenant']}/{one['agent'] or '-'}, {counted(one['hits'], 'hit')})"
    )


def alert_lines(one: dict[str, Any]) -> list[str]:
    """An alert, whole."""
    rests, subject = one["evidence"], ", ".join(map(fit, one["subject"]))
    lines = [
        f"{one['alert_id']}  {one['state']}",
        f"  detection  {one['detection']}, severity {one['severity']}, of {subject or '-'}",
        f"  agent      {one['tenant']}/{one['agent'] or '-'}"
        + (f", run {fit(one['run'])}" if one["run"] else ""),
        f"  why        {fit(one['reason'])}",
        f"  seen       {counted(one['hits'], 'time')}, {time_text(one['first_us'])} to "
        f"{time_text(one['last_us'])}",
    ]
    for kind in ("raised", "joined"):
        for receipt in rests[kind]:
            call = f", call {fit(receipt['call_id'])}" if receipt["call_id"] else ""
            lines.append(
                f"  {kind:<10} receipt {receipt['seq']} at {time_text(receipt['at_us'])}{call}"
            )
    if rests["left_out"]:
        lines.append(f"  and        at least {counted(rests['left_out'], 'more receipt')}")
    if one["incident_id"]:
        lines.append(f"  incident   {one['incident_id']}")
    return [*lines, *note_lines(one), *receipt_lines(one)]


def note_lines(one: dict[str, Any]) -> list[str]:
    """What was said and done."""
    return [
        f"  {note['did']:<10} {fit(note['actor'])} at {time_text(note['at_us'])}"
        + (f": {fit(note['text'])}" if note["text"] else "")
        for note in one["notes"]
    ]


def receipt_lines(one: dict[str, Any]) -> list[str]:
    """Which receipt tells of what was just done."""
    if "seq" not in one:
        return []
    if one["seq"] is None:
        return ["it stood so already; nothing was changed"]
    return [f"receipt {one['seq']} of {one['tenant']} tells of it"]
