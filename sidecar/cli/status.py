"""`aegis-sidecar status`: what the running sidecar says of itself."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from sidecar.cli.control_client import (
    Unreachable,
    add_connection_arguments,
    ask,
    changed_since_start,
)
from sidecar.counted import counted

NAME = "status"
HELP = "say how the running sidecar is doing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where it runs, and the form of the answer."""
    add_connection_arguments(parser)
    parser.add_argument("--json", action="store_true", help="everything as one JSON object")


def run(args: argparse.Namespace) -> int:
    """0 if it is ready, 1 if it is not or does not answer, 2 for wrong usage."""
    try:
        status = ask(args, "GET", "/status")
    except Unreachable as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(status) if args.json else "\n".join(_lines(status)))
    if changed := changed_since_start(args):
        print(changed, file=sys.stderr)
    return 0 if status["ready"] else 1


def _lines(status: dict[str, Any]) -> list[str]:
    calls, policies, listen = status["calls"], status["policies"], status["listen"]
    upstreams = ", ".join(f"{name} ({kind})" for name, kind in status["upstreams"].items())
    up = _span(status["uptime_s"])
    lines = [
        f"aegis-sidecar {status['version']}, process {status['pid']}, up {up}",
        "ready" if status["ready"] else f"NOT READY: {'; '.join(status['not_ready'])}",
        f"listens     {_places(listen)}",
        f"upstreams   {upstreams}",
        f"policies    {counted(policies['rules'], 'rule')}, revision {policies['revision']}, "
        f"default {status['default']}",
    ]
    if status["default"] == "observe":
        lines.append("            OBSERVE: nothing is refused by policy, only judged and recorded")
    if policies["rules_in_shadow"]:
        some = f"{policies['rules_in_shadow']} of {policies['rules']}"
        lines.append(
            f"            SHADOW: {some} rules decide nothing, they are only judged and recorded"
        )
    if not policies["files_are_in_force"]:
        lines.append("            the files are BROKEN; the last good set stays in force:")
    problems = sorted(policies["problems"], key=_is_warning)  # what is broken first
    lines += [f"            {line}" for text in problems for line in text.split("\n")]
    lines += [
        f"calls       {calls['in_flight']} in flight, {calls['forwarded']} forwarded, "
        f"{calls['refused']} refused",
        f"queue       {_queue(status['queue'])}",
        f"store       {status['store']['sentence']}",
    ]
    lines += [f"            {warning}" for warning in status["store"]["warnings"]]
    return lines


def _is_warning(problem: str) -> bool:
    return ": warning: " in problem.partition("\n")[0]


def _places(listen: dict[str, Any]) -> str:
    if not listen["data"]:
        return "to the agent that started it"
    return f"agents at {listen['data']}, control at {listen['control']}"


def _queue(queue: dict[str, Any]) -> str:
    lanes = queue["lanes"]
    return (
        f"{counted(lanes['committed']['depth'], 'decision')} and "
        f"{counted(lanes['queued']['depth'], 'outcome')} wait, "
        f"of {queue['capacity']} each; the oldest for {queue['oldest_age_s'] * 1000:.0f} ms"
    )


def _span(seconds: float) -> str:
    minutes, _ = divmod(int(seconds), 60)
    if not minutes:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
