"""`aegis-sidecar approvals list|show|approve|reject|withdraw|link|watch`: what waits for a person.

Asks the running sidecar over control.sock. What is shown was made fit to be read when it was asked:
nothing in it is invisible, and what was cut or masked says so.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sidecar.approvals.readable import readable, readable_name
from sidecar.cli.command_parser import some_text
from sidecar.cli.control_client import Unreachable, add_connection_arguments, ask_at, socket_path
from sidecar.counted import counted
from sidecar.kept_id import kept_id

NAME = "approvals"
HELP = "show calls that wait for a person's yes, approve or reject them"

WATCH_EVERY_S: Final = 1.0
#: How far back is looked again for what was asked meanwhile.
OVERLAP_MS: Final = 60_000
#: Pages that are asked for: of 200, more than a tenant may have open.
_PAGES_MAX: Final = 500
_VERBS: Final = (
    ("list", "what waits now, the oldest first"),
    ("show", "one of them, whole: the arguments, who may decide, what was said"),
    ("approve", "say yes, on record"),
    ("reject", "say no, on record"),
    ("withdraw", "take it back, on record: a question, or a yes that was not used yet"),
    ("link", "make a link by which one person decides on it, without a key"),
    ("watch", "show each that is asked from now on, until Ctrl-C"),
)

_ACTS: Final = ("approve", "reject", "withdraw")
#: Members of what is asked that have a line of their own, or are in one; any other gets one.
_SAID: Final = frozenset(
    {
        "agent", "user", "tool", "method", "path", "reason", "called", "risk", "mutates", "run",
        "arguments", "beside", "headers", "is_cut", "is_escaped", "is_altered", "rules",
        "action_sha256",
    }
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ACTION")
    for verb, what in _VERBS:
        one = verbs.add_parser(verb, help=what)
        if verb in ("show", "link", *_ACTS):
            one.add_argument("id", metavar="ID")
        if verb == "list":
            one.add_argument("--all", action="store_true", help="decided ones too, newest first")
        if verb in _ACTS:
            one.add_argument("--reason", default="", help="why; it stands in the record")
        if verb == "link":
            one.add_argument(
                "--for",
                dest="name",
                required=True,
                metavar="NAME",
                help="who decides: an approver of sidecar.yaml, or who has a key",
            )
            one.add_argument(
                "--group",
                type=some_text,
                action="append",
                default=[],
                help="only as one of this group of NAME's",
            )
        one.add_argument("--tenant", default="", help="only this tenant's")
        one.add_argument("--json", action="store_true", help="JSON, one object a line")
        add_connection_arguments(one)


def run(args: argparse.Namespace) -> int:
    """0 done, 1 refused or nobody answers, 2 for wrong usage."""
    try:
        where = socket_path(args)
        if args.verb == "watch":
            return _watch(args, where)
        if args.verb == "list" and not args.all:
            _print_list(_waiting(where, args.tenant), as_json=args.json)
            return 0
        said = ask_at(where, "POST", f"/approvals/{args.verb}", _asked(args))
    except Unreachable as error:
        print(error, file=sys.stderr)
        if error.next_step:
            print(f"    {error.next_step}", file=sys.stderr)
        return error.exit_code
    if args.verb == "link":
        print(json.dumps(said) if args.json else said["url"])
    elif args.verb == "list":
        _print_list(said["approvals"], as_json=args.json)
    else:
        _print_one(said, as_json=args.json)
    return 0


def _asked(args: argparse.Namespace) -> dict[str, Any]:
    asked: dict[str, Any] = {"tenant": args.tenant}
    if args.verb == "list":
        asked["all"] = True
    else:
        asked["id"] = kept_id(args.id)
    if args.verb in _ACTS:
        asked["reason"] = args.reason
    if args.verb == "link":
        asked["name"], asked["groups"] = args.name, args.group
    return asked


def _watch(args: argparse.Namespace, where: Path) -> int:
    seen: set[str] = set()
    while True:
        after = _some_time_before(max(seen, default=""))
        for one in _waiting(where, args.tenant, after):
            if one["state"] == "pending" and one["approval_id"] not in seen:
                _print_one(one, as_json=args.json)
                sys.stdout.flush()
                seen.add(one["approval_id"])
        seen = {one for one in seen if one > after}
        time.sleep(WATCH_EVERY_S)


def _some_time_before(approval_id: str) -> str:
    """What ids of that time begin with: another sidecar's clock may be behind. Ids begin with their
    time in milliseconds; "" stands before all of them."""
    try:
        return f"{max(0, int(approval_id[:12], 16) - OVERLAP_MS):012x}"
    except ValueError:
        return ""


def _waiting(where: Path, tenant: str, after: str = "") -> list[dict[str, Any]]:
    """All that wait, the oldest first, page after page: one agent's hundreds do not hide what
    another asks."""
    found: list[dict[str, Any]] = []
    for _ in range(_PAGES_MAX):
        asked = {"tenant": tenant, "all": False, "after": after}
        said = ask_at(where, "POST", "/approvals/list", asked)
        found += said["approvals"]
        after = said["next"]
        if not after:
            break
    return found


def _print_list(approvals: list[dict[str, Any]], *, as_json: bool) -> None:
    if not approvals and not as_json:
        print("nothing waits")
    for one in approvals:
        if as_json:
            print(json.dumps(one))
            continue
        called = one["asked"].get("called")
        name = one["tool"] if called is None else f"{one['tool']} ({called})"
        print(
            f"{one['approval_id']}  {one['state']:<9} {one['tenant']}/{one['agent']}  "
            f"{name}  asked {_time(one['asked_at_us'])}, ends {_time(one['expires_at_us'])}"
        )


def _print_one(one: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(one))
        return
    for line in _lines(one):
        print(line)


def _lines(one: dict[str, Any]) -> list[str]:
    asked = one["asked"]
    user = f", for {one['user']}" if one["user"] else ""
    lines = [
        f"{one['approval_id']}  {one['state']}",
        f"  agent      {one['tenant']}/{one['agent']}{user}",
        f"  tool       {one['tool']}  ({asked['method']} {asked['path']})".rstrip(),
        f"  why        {asked['reason']}",
    ]
    if "called" in asked:
        lines.append(f"  called     {asked['called']}, which no catalogue declares")
    if "risk" in asked:
        changes = ", changes state" if asked.get("mutates") else ""
        lines.append(f"  risk       {asked['risk']}{changes}")
    if "run" in asked:
        labels, calls = ", ".join(asked["run"]["labels"]) or "none", asked["run"].get("calls", 0)
        lines.append(f"  run        trust {asked['run']['trust']}; labels {labels}; calls {calls}")
    lines += [f"  {name:<10} {text}" for name, text in _sent(asked)]
    lines += [f"  {name:<10} {readable(asked[name])}" for name in sorted(asked.keys() - _SAID)]
    if "last_approved" in one:
        lines += _compared(one["last_approved"])
    if asked.get("is_altered"):
        lines.append("  NOTE       the store was changed: nobody can decide on it; withdraw it")
    if asked["is_cut"]:
        lines.append("  NOTE       some of it was too long and is cut; it says how much is missing")
    if asked["is_escaped"]:
        lines.append("  NOTE       invisible characters are shown as \\u escapes")
    for term in one["terms"]:
        who = ", ".join(term["approvers"]) or "any approver"
        lines.append(f"  wanted     {term['given']} of {term['quorum']} by {who}: {term['rule']}")
    for vote in one["votes"]:
        why = f": {vote['reason']}" if vote["reason"] else ""
        lines.append(f"  {vote['vote']:<10} {vote['actor']} at {_time(vote['at_us'])}{why}")
    lines.append(f"  asked      {_time(one['asked_at_us'])}, ends {_time(one['expires_at_us'])}")
    lines.append(f"  action     {one['action_sha256']}")
    if asked.get("action_sha256", one["action_sha256"]) != one["action_sha256"]:
        lines.append(f"  its hash   {asked['action_sha256']}, as its agent knows it")
    if one["spent_by"]:
        lines.append(f"  spent by   call {one['spent_by']}")
    return lines


def _sent(asked: dict[str, Any]) -> list[tuple[str, str]]:
    said = _members("arguments", asked["arguments"])
    if "beside" in asked:
        said += _members("beside", asked["beside"])
    said += [("header", f"{name}: {', '.join(held)}") for name, held in asked["headers"].items()]
    return said


def _members(what: str, values: Any) -> list[tuple[str, str]]:
    if not isinstance(values, dict):
        return [(what, str(values))]
    said = [(what, "none")] if not values else []
    for number, (name, value) in enumerate(values.items()):
        said.append((what if not number else "", f"{readable_name(name)} = {readable(value)}"))
    return said


def _compared(last: dict[str, Any] | None) -> list[str]:
    if last is None:
        return ["  before     nothing of this tool was approved for this agent yet"]
    head = f"approved last at {_time(last['asked_at_us'])}, {last['approval_id']}"
    if not last["differences"]:
        lines = [f"  before     the same as {head}"]
    else:
        lines = [f"  before     {counted(len(last['differences']), 'difference')} from {head}"]
    for one in last["differences"]:
        what = {
            "added": f"{one['at']} = {one['now']} is new",
            "removed": f"{one['at']} = {one['before']} is gone",
            "changed": f"{one['at']}: {one['before']} -> {one['now']}",
        }.get(one["what"], f"{one['at']} is not shown, and may be another")
        lines.append(f"{'':13}{what}")
    if not last["is_whole"]:
        lines.append(f"{'':13}and not all of it can be compared")
    return lines


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="seconds")
