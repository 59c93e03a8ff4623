"""`aegis-sidecar tools diff|accept|forget`: what MCP servers say of their tools, against what is
pinned.

Asks the running sidecar over control.sock, which keeps the pins; where none runs, the store.
Knows: how a difference is drawn: a unified diff of both definitions, one member a line. A server
must not write our terminal, nor into our shell: what is not printable is escaped, and what is to be
copied is quoted.
"""

from __future__ import annotations

import argparse
import difflib
import json
import shlex
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sidecar.cli.command_parser import some_text
from sidecar.cli.control_client import Unreachable, add_connection_arguments, ask_at, socket_path
from sidecar.cli.terminal_text import fit

if TYPE_CHECKING:
    from argparse import _SubParsersAction

#: Digits of a hash that are shown, and that `--seen` takes.
SHOWN_DIGITS: Final = 16
LINE_LENGTH_MAX: Final = 2000


def add_pin_arguments(actions: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """`tools diff [UPSTREAM]`, `tools accept UPSTREAM TOOL|--all` and `tools forget UPSTREAM
    TOOL…|--all`."""
    diff = actions.add_parser(
        "diff",
        help="show tools of MCP servers that are not what they were pinned to",
        description="Shows what MCP servers say of tools now, against what was pinned when they "
        "were first seen or last accepted. Such tools are hidden and refused.",
    )
    diff.add_argument("upstream", metavar="UPSTREAM", nargs="?", default="")
    accept = actions.add_parser(
        "accept",
        help="take over what an MCP server says of its tools now, on record",
        description="Pins a tool to what its server was last seen to say of it; it is listed and "
        "may be called again, as far as the policies allow.",
    )
    accept.add_argument("upstream", metavar="UPSTREAM")
    accept.add_argument("tool", metavar="TOOL", nargs="?")
    accept.add_argument("--all", action="store_true", help="every tool of it that has drifted")
    accept.add_argument(
        "--seen",
        type=some_text,
        metavar="HASH",
        help="only if this is what was seen, as `diff` shows",
    )
    accept.add_argument("--reason", default="", help="why; it stands beside the receipt")
    forget = actions.add_parser(
        "forget",
        help="unpin tools that a server has no more, on record; 2,048 of each are kept",
        description="Unpins tools, so that there is room for others: of a server 2,048 are kept. "
        "What a list says of such a tool next is first seen: pinned as it is then, listed, and "
        "called as far as the policies allow. A tool that has drifted is not forgotten.",
    )
    forget.add_argument("upstream", metavar="UPSTREAM")
    forget.add_argument("tools", metavar="TOOL", nargs="*", default=[])
    forget.add_argument("--all", action="store_true", help="every tool of it that is pinned")
    forget.add_argument("--dry-run", action="store_true", help="only say which would go")
    forget.add_argument("--reason", default="", help="why; it stands beside the receipt")
    for one in (diff, accept, forget):
        one.add_argument("--tenant", default="", help="if there are several")
        one.add_argument("--json", action="store_true", help="one JSON object")
        add_connection_arguments(one)


def run_pins(args: argparse.Namespace) -> int:
    """0 done and nothing has drifted, 1 something has, was refused or nobody answers, 2 usage."""
    asked: dict[str, Any] = {"upstream": args.upstream, "tenant": args.tenant}
    if args.action == "accept":
        if (args.tool is None) is not args.all:
            print("name one TOOL, or write --all", file=sys.stderr)
            return 2
        if args.all and args.seen:
            print("--seen goes with one TOOL", file=sys.stderr)
            return 2
        asked |= {"tool": args.tool, "seen": args.seen or "", "reason": args.reason}
    if args.action == "forget":
        if bool(args.tools) is args.all:
            print("name each TOOL, or write --all", file=sys.stderr)
            return 2
        asked |= {"tools": args.tools or None, "reason": args.reason, "is_tried": args.dry_run}
    try:
        said = _ask(args, asked)
    except _Refused as refused:
        print(refused, file=sys.stderr)
        if refused.next_step:
            print(f"    {refused.next_step}", file=sys.stderr)
        return refused.exit_code
    if args.json:
        print(json.dumps(said))
    else:
        for line in _LINES[args.action](said):
            print(line)
    return 1 if args.action == "diff" and said["drifted"] else 0


class _Refused(Exception):
    """Nothing is known or done; the message says why."""

    def __init__(self, why: str, next_step: str, exit_code: int = 1) -> None:
        super().__init__(why)
        self.next_step = next_step
        self.exit_code = exit_code


def _ask(args: argparse.Namespace, asked: dict[str, Any]) -> dict[str, Any]:
    """What the sidecar says, or the store; raises _Refused."""
    try:
        return ask_at(socket_path(args), "POST", f"/tools/{args.action}", asked)
    except Unreachable as error:
        if not error.is_absent:
            raise _Refused(str(error), error.next_step, error.exit_code) from error
    return _ask_store(args, asked)


def _ask_store(args: argparse.Namespace, asked: dict[str, Any]) -> dict[str, Any]:
    from sidecar.cli.tools_pins_store import ask_store
    from sidecar.control.tool_care import ToolCareRefused
    from storage.errors import StoreError, StoreHeld

    try:
        return ask_store(args, asked)
    except Unreachable as error:
        raise _Refused(str(error), error.next_step, error.exit_code) from error
    except ToolCareRefused as error:
        raise _Refused(error.title, error.next_step) from error
    except StoreHeld as error:
        held = "A process works on this store, perhaps `wrap`: stop it first."
        raise _Refused(f"{error} [{error.code}]", held) from error
    except StoreError as error:
        raise _Refused(f"{error} [{error.code}]", error.next_step) from error


def _accepted(said: dict[str, Any]) -> Iterator[str]:
    for tool, sha256 in said["accepted"].items():
        yield f"accepted {said['upstream']}/{_printable(tool)} {sha256[:SHOWN_DIGITS]}"
    if "seq" in said:
        yield f"receipt {said['seq']} of {said['tenant']} tells of it"
    else:
        yield f"nothing of {said['upstream']} has drifted"


def _forgotten(said: dict[str, Any]) -> Iterator[str]:
    verb = "would forget" if said.get("is_tried") else "forgot"
    for tool, sha256 in said["forgotten"].items():
        yield f"{verb} {said['upstream']}/{_printable(tool)} {sha256[:SHOWN_DIGITS]}"
    if not said["forgotten"]:
        yield f"nothing of {said['upstream']} is pinned"
    if "seq" in said:
        yield (
            f"receipt {said['seq']} of {said['tenant']} tells of it; a tool that the server lists "
            "again is new, and pinned as it is then"
        )


def _drifted(said: dict[str, Any]) -> Iterator[str]:
    for tool in said["tools"]:
        yield from _difference(tool)
        yield ""
    if said["drifted"] > len(said["tools"]):
        yield f"only the first {len(said['tools'])} are shown; name an upstream or a tenant"
    yield f"{said['drifted']} of {said['pinned']} pinned tools have drifted"


def _difference(tool: dict[str, Any]) -> Iterator[str]:
    from sidecar.ledger.tool_definition import why_unknown

    name = _printable(tool["tool"])
    yield f"{tool['upstream']}/{name} of {tool['tenant']}: hidden and refused until accepted"
    before = f"pinned {_time(tool['pinned_us'])} {tool['pinned_sha256'][:SHOWN_DIGITS]}"
    after = f"seen {_time(tool['seen_us'])} {tool['seen_sha256'][:SHOWN_DIGITS]}"
    lines = difflib.unified_diff(
        _lines(tool["pinned"]), _lines(tool["seen"]), before, after, n=2, lineterm=""
    )
    for line in lines:
        yield f"  {_printable(line)}"
    why = why_unknown(tool["seen"])
    if why:
        yield f"  it cannot be taken over: {_printable(why)}"
        return
    seen = tool["seen_sha256"][:SHOWN_DIGITS]
    yield f"  to take it over: aegis-sidecar tools accept {_named(tool['upstream'], name, seen)}"


def _named(upstream: str, name: str, seen: str) -> str:
    """Arguments as a shell takes them: a server chooses the names, people copy the line."""
    both = f"{shlex.quote(upstream)} {shlex.quote(name)}"
    return f"--seen {seen} -- {both}" if name.startswith("-") else f"{both} --seen {seen}"


def _lines(definition: str) -> list[str]:
    """One member a line; a long text one line for each of its own."""
    lines: list[str] = []
    for line in json.dumps(json.loads(definition), indent=2, ensure_ascii=False).splitlines():
        lines += line.replace("\\n", "\\n\n").split("\n")
    return lines


_LINES: Final = {"diff": _drifted, "accept": _accepted, "forget": _forgotten}


def _printable(text: str) -> str:
    shown = fit(text)
    return shown if len(shown) <= LINE_LENGTH_MAX else f"{shown[:LINE_LENGTH_MAX]}…"


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="seconds")
