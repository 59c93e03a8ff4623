"""`aegis-sidecar keys list|create|revoke`: keys of the control listener; each change on record.

Asks the running sidecar over control.sock, which is how the first key is made. A key is printed
once, when it is made.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from sidecar.cli.control_client import add_connection_arguments, tell

NAME = "keys"
HELP = "list, make and revoke keys of people and services"

ROLES = ("viewer", "auditor", "approver", "operator", "admin")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ACTION")
    listed = verbs.add_parser("list", help="all keys, without their secrets")
    create = verbs.add_parser("create", help="a new key; it is printed once")
    create.add_argument("name", metavar="NAME", help="whose it is: a person or a service")
    create.add_argument(
        "--role",
        action="append",
        required=True,
        choices=ROLES,
        dest="roles",
        help="what it may do; may be given several times",
    )
    create.add_argument(
        "--group",
        action="append",
        default=[],
        dest="groups",
        metavar="GROUP",
        help="whose approvals it can give; may be given several times",
    )
    create.add_argument("--days", type=int, help="how long it lasts (default: until revoked)")
    revoke = verbs.add_parser("revoke", help="a key that opens nothing any more")
    revoke.add_argument("key_id", metavar="KEY_ID")
    for one in (listed, create, revoke):
        one.add_argument("--tenant", default="", help="if there are several")
        if one is not listed:
            one.add_argument("--reason", default="", help="why; it stands beside the receipt")
        one.add_argument("--json", action="store_true", help="one JSON object")
        add_connection_arguments(one)


def run(args: argparse.Namespace) -> int:
    """0 done, 1 refused or nobody answers, 2 for wrong usage."""
    names = ("name", "roles", "groups", "days", "key_id", "tenant", "reason")
    asked = {name: getattr(args, name) for name in names if hasattr(args, name)}
    return tell(args, f"/keys/{args.verb}", asked, _listed if args.verb == "list" else _changed)


def _listed(said: dict[str, Any]) -> list[str]:
    return [
        f"{one['key_id']}  {one['state']:<8}  {one['tenant']}/{one['name']}: "
        f"{', '.join(one['roles'])}; groups {', '.join(one['groups']) or 'none'}; "
        f"until {_time(one['expires_us'])}"
        for one in said["keys"]
    ] or ["there are no keys: make the first with `keys create NAME --role admin`"]


def _changed(said: dict[str, Any]) -> list[str]:
    lines = []
    if said.get("key"):
        lines = [
            f"key    {said['key']}",
            "       shown once, kept as a hash: send it as Authorization: Bearer",
        ]
    lines.append(f"{said['key_id']}: receipt {said['seq']} tells of it")
    return lines


def _time(at_us: int | None) -> str:
    if at_us is None:
        return "revoked"
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="seconds")
