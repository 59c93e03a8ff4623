"""`aegis-sidecar contain ACTION SUBJECT`: stops an agent, a tool, an upstream, a destination or a
run now, on record, until its time is over or somebody undoes it.

Asks the running sidecar over control.sock.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from sidecar.cli.command_parser import some_text
from sidecar.cli.control_client import add_connection_arguments, tell

NAME = "contain"
HELP = "stop an agent, a tool, an upstream, a destination or a run, now"

ACTIONS = {
    "freeze-agent": "AGENT: refuse all its calls",
    "quarantine-agent": "AGENT: refuse all its calls until it is restored",
    "revoke-agent": "AGENT: end it for good; nothing undoes that",
    "block-tool": "UPSTREAM/OPERATION: refuse calls of this tool",
    "block-upstream": "UPSTREAM: refuse whatever would go there",
    "block-destination": "HOST: refuse calls with a URL of this host, or one below it, among their "
    "arguments, and calls to upstreams that lead there",
    "block-run": "AGENT, or AGENT/RUN-ID: refuse the calls of this run",
    "force-approval": "AGENT, or UPSTREAM/OPERATION: what would go ahead waits for a person's yes",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What, whom, how long and why."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(
        ["actions and their subjects:", *(f"  {name:<18} {what}" for name, what in ACTIONS.items())]
    )
    parser.add_argument("action", metavar="ACTION", choices=tuple(ACTIONS))
    parser.add_argument("subject", metavar="SUBJECT")
    parser.add_argument("--agent", type=some_text, help="for this agent's calls only")
    parser.add_argument(
        "--for",
        dest="lasts",
        type=some_text,
        metavar="TIME",
        help="e.g. 1h; without it, until undone",
    )
    parser.add_argument("--reason", default="", help="why; no agent is told")
    parser.add_argument("--incident", default="", metavar="ID", help="the incident it belongs to")
    parser.add_argument("--tenant", default="", help="if there are several")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_connection_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """0 done, 1 refused or nobody answers, 2 for wrong usage."""
    from sidecar.cli.containments import lines_of
    from sidecar.config.units import duration_s

    for_s = 0.0
    if args.lasts:
        try:
            for_s = duration_s(args.lasts)
        except ValueError as error:
            print(f"--for: {error}", file=sys.stderr)
            return 2
        if not for_s:
            print("--for: a containment lasts some time; leave it out for no end", file=sys.stderr)
            return 2
    asked: dict[str, Any] = {
        name: getattr(args, name) or ""
        for name in ("action", "subject", "agent", "reason", "incident", "tenant")
    }
    return tell(args, "/containments/begin", {**asked, "for_s": for_s}, lines_of)
