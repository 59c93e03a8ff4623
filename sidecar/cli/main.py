"""`aegis-sidecar`: finds the command and runs it.

Knows: the names of the commands. Each is a module of this package with NAME, HELP,
add_arguments(parser) and run(args) -> exit code; it is imported when it is named, and imports
what it needs when it runs, so that a short command stays short.
Exit codes: 0 fine, 1 problems found, 2 wrong usage or unreadable input; 128 and the number of what
ended it (Ctrl-C, a pipe that nobody reads), which is no verdict.
"""

from __future__ import annotations

import difflib
import importlib
import signal
import sys
from collections.abc import Sequence
from types import ModuleType

import sidecar
from sidecar.cli.command_parser import CommandParser
from sidecar.cli.own_output import has_no_room, make_ready, silence
from sidecar.errors import SidecarError

COMMANDS = (
    "serve", "wrap", "demo", "status", "reload", "health", "store", "config", "policy", "tools",
    "receipts", "runs", "approvals", "agents", "keys", "soc",
    "contain", "containments", "alerts", "incidents", "sinks",
)  # fmt: skip

_PROGRAM = "aegis-sidecar"
_INTERRUPTED = 128 + signal.SIGINT
_UNREAD = 128 + signal.SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; gives its exit code."""
    make_ready()
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = given[0] if given else ""
    if command and not command.startswith("-") and command not in COMMANDS:
        return _unknown(command)
    parsed = _parser(command).parse_args(given)
    try:
        code: int = _module(parsed.command).run(parsed)
        sys.stdout.flush()
    except BrokenPipeError:
        silence()  # whoever read our output has seen enough
        return _UNREAD  # 1 is a verdict of those who verify
    except OSError as error:
        if not has_no_room(error):
            raise
        print(f"{_PROGRAM}: its output cannot be written: {error.strerror}", file=sys.stderr)
        return 2  # 1 is a verdict of those who verify
    except SidecarError as error:
        print(f"{_PROGRAM} {parsed.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    return code


def _parser(command: str) -> CommandParser:
    """With the one command that was named, or with all of them for help."""
    parser = CommandParser(
        prog=_PROGRAM,
        description="Judges, records, then forwards the tool calls of AI agents.",
        epilog=f"`{_PROGRAM} COMMAND --help` says more of a command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{_PROGRAM} {sidecar.__version__}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", title="commands"
    )
    for name in _named(command):
        module = _module(name)
        own = commands.add_parser(name, help=module.HELP)
        module.add_arguments(own)
    return parser


def _named(command: str) -> tuple[str, ...]:
    """The commands that what was given first can be about."""
    if command in COMMANDS:
        return (command,)
    return () if command == "--version" else COMMANDS


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"sidecar.cli.{name}")


def _unknown(command: str) -> int:
    near = difflib.get_close_matches(command, COMMANDS, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    print(f"{_PROGRAM}: there is no command {command!r}{meant}", file=sys.stderr)
    print(f"commands: {', '.join(COMMANDS)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
