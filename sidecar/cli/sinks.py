"""`sinks list|test|dead|retry`: who is told of what happened, and what could not be told.

Knows: how the running sidecar is asked. A test is waited for until something has come of it; what a
sink said is printed as it is kept, without anything that could move a terminal.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from sidecar.cli.control_client import Unreachable, add_connection_arguments, ask_at, socket_path
from sidecar.cli.control_client import tell as _tell

NAME: Final = "sinks"
HELP: Final = "who is told of alerts and approvals: how they stand, test, dead letters"

LOOK_EVERY_S: Final = 0.2
TEST_WAIT_S: Final = 15.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The commands and what they take."""
    commands = parser.add_subparsers(dest="what", required=True, metavar="ACTION")
    listing = commands.add_parser("list", help="every sink: what waits, what was given up")
    test = commands.add_parser("test", help="tell a sink something, and wait for what comes of it")
    test.add_argument("sink", metavar="NAME")
    dead = commands.add_parser("dead", help="what was given up, the newest first")
    dead.add_argument("sink", metavar="NAME", nargs="?", default="")
    retry = commands.add_parser("retry", help="have what was given up tried again")
    which = retry.add_mutually_exclusive_group(required=True)
    which.add_argument("id", metavar="ID", nargs="?", default="", help="one delivery")
    which.add_argument("--all", dest="sink", metavar="NAME", default="", help="all of a sink")
    retry.add_argument("--reason", default="", help="why, for the record")
    for one in (listing, test, dead, retry):
        one.add_argument("--tenant", default="", help="only this tenant's (default: all)")
        one.add_argument("--json", action="store_true", help="as JSON")
        add_connection_arguments(one)


def run(args: argparse.Namespace) -> int:
    """0 done, 1 refused, not delivered or nobody answers, 2 wrong usage."""
    asked: dict[str, Any] = {"tenant": args.tenant}
    if args.what == "list":
        return _tell(args, "/sinks/list", asked, _listed)
    if args.what == "dead":
        return _tell(args, "/sinks/dead", {**asked, "sink": args.sink}, _dead)
    if args.what == "retry":
        asked |= {"id": args.id, "sink": args.sink, "reason": args.reason}
        return _tell(args, "/sinks/retry", asked, _retried)
    return _test(args, {**asked, "sink": args.sink})


def _test(args: argparse.Namespace, asked: dict[str, Any]) -> int:
    try:
        where = socket_path(args)
        said = ask_at(where, "POST", "/sinks/test", asked)
        wanted = {"id": said["delivery_id"], "tenant": said["tenant"]}
        until_s = time.monotonic() + TEST_WAIT_S
        while _is_open(said) and time.monotonic() < until_s:
            time.sleep(LOOK_EVERY_S)
            said = ask_at(where, "POST", "/sinks/show", wanted)
    except Unreachable as error:
        print(error, file=sys.stderr)
        if error.next_step:
            print(f"    {error.next_step}", file=sys.stderr)
        return error.exit_code
    if args.json:
        print(json.dumps(said))
    elif said["state"] == "delivered":
        print(f"delivered: {said['sink']} has taken {said['delivery_id']}")
    else:
        why = said["said"] or "it waits: the sink is resting after others that failed"
        print(f"not delivered: {why}")
        print(f"    {said['delivery_id']} is {said['state']}; `sinks list` says how it stands")
    return 0 if said["state"] == "delivered" else 1


def _is_open(said: dict[str, Any]) -> bool:
    """Whether nothing has come of the first attempt yet."""
    return bool(said["state"] == "waiting" and "being sent" in (said["said"] or "being sent"))


def _listed(said: dict[str, Any]) -> Iterable[str]:
    if not said["sinks"]:
        yield "there are no sinks; sidecar.yaml names them under `sinks:`"
    for one in said["sinks"]:
        kind = one["kind"] or "not configured"
        line = f"{one['sink']:<16} {kind:<8} waiting {one['waiting']}, dead {one['dead']}"
        if one["oldest_waiting_us"] is not None:
            line += f", oldest from {_time(one['oldest_waiting_us'])}"
        yield line
        if one["last_error"]:
            yield f"    last: {one['last_error']}"


def _dead(said: dict[str, Any]) -> Iterable[str]:
    if not said["deliveries"]:
        yield "nothing was given up"
    for one in said["deliveries"]:
        yield (
            f"{one['delivery_id']}  {one['sink']}  {one['kind']} ({one['severity']}) of "
            f"{one['tenant']}, {_time(one['created_us'])}, {one['attempts']} attempts"
        )
        yield f"    {one['said']}"


def _retried(said: dict[str, Any]) -> Iterable[str]:
    yield f"{said['retried']} will be tried again"


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="seconds")
