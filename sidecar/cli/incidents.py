"""`aegis-sidecar incidents list|show|acknowledge|note|close`: alerts that belong together.

Asks the running sidecar over control.sock. `soc verify` proves one, `soc pack` takes it away.
"""

from __future__ import annotations

import argparse
from typing import Any

from sidecar.cli.alerts import (
    add_filters,
    add_usual,
    alert_lines,
    asked_of,
    more_lines,
    note_lines,
    receipt_lines,
)
from sidecar.cli.chosen_store import time_text
from sidecar.cli.control_client import tell
from sidecar.cli.terminal_text import fit
from sidecar.counted import counted

NAME = "incidents"
HELP = "list incidents, show one with its alerts, acknowledge or close it, add notes"

_VERBS = {
    "list": "the newest incidents",
    "show": "one of them, with its alerts",
    "acknowledge": "say that somebody looks at it, on record",
    "note": "add a note, on record",
    "close": "end it and its alerts, on record",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ACTION")
    for verb, what in _VERBS.items():
        one = verbs.add_parser(verb, help=what, description=f"{what[0].upper()}{what[1:]}.")
        if verb == "list":
            add_filters(one, ("open", "acknowledged", "contained", "closed"))
        else:
            one.add_argument("id", metavar="INCIDENT")
        if verb == "note":
            one.add_argument("reason", metavar="TEXT", help="what is to be remembered")
        if verb in ("acknowledge", "close"):
            one.add_argument("--reason", default="", help="why; it stands in the record")
        add_usual(one)


def run(args: argparse.Namespace) -> int:
    """0 done, 1 refused or nobody answers, 2 for wrong usage."""
    path, asked = asked_of(args)
    return tell(args, f"/incidents/{path}", asked, _listed if args.verb == "list" else _lines)


def _listed(said: dict[str, Any]) -> list[str]:
    if not said["incidents"]:
        return ["there are no incidents"]
    lines = [
        f"{one['incident_id']}  {one['state']:<12} {one['severity']:<8} "
        f"{time_text(one['last_us'])}  {fit(one['title'])}  "
        f"({one['tenant']}/{one['agent'] or '-'}, {counted(one['alerts'], 'alert')})"
        for one in said["incidents"]
    ]
    return lines + more_lines(said, said["incidents"][-1]["incident_id"])


def _lines(one: dict[str, Any]) -> list[str]:
    lines = [
        f"{one['incident_id']}  {one['state']}, severity {one['severity']}",
        f"  title      {fit(one['title'])}",
        f"  agent      {one['tenant']}/{one['agent'] or '-'}"
        + (f", run {fit(one['run'])}" if one["run"] else ""),
        f"  opened     {time_text(one['opened_us'])}, last seen {time_text(one['last_us'])}",
        f"  alerts     {one['alerts']}",
        *note_lines(one),
    ]
    for alert in one.get("alert_list", ()):
        lines += [f"    {line}" for line in alert_lines(alert)]
    return [*lines, *receipt_lines(one)]
