"""`aegis-sidecar wrap`: a local MCP server with the sidecar around it, for agents that start it.

Knows: the command line, whose pipes are the agent's, which files are used, and the one line that
says so. Standard output is the agent's: nothing but the protocol goes there.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.config.model import Config
    from sidecar.wrap.running import Wrapped

NAME = "wrap"
HELP = "run a local MCP server behind the policies; agents start this instead of it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The server's name and command, and where things stand."""
    # What argparse makes of it does not show where the server's own options may stand.
    parser.usage = "%(prog)s [-h] --name NAME [OPTION ...] -- COMMAND [ARGUMENT ...]"
    parser.add_argument(
        "--name", required=True, help="what policies and receipts call the server, e.g. files"
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="path of sidecar.yaml (default: AEGIS_CONFIG, else one in the data folder, which is "
        "written the first time)",
    )
    parser.add_argument(
        "--data-dir",
        metavar="FOLDER",
        help="where the receipts are kept (default: $XDG_DATA_HOME/aegis-sidecar/NAME, below "
        "~/.local/share)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting, e.g. limits.queue=100",
    )
    parser.add_argument(
        "--import-tools",
        action="store_true",
        help="print a first catalogue of the server's tools, for review, and end",
    )
    parser.add_argument("server", nargs="+", metavar="COMMAND", help="after --: the server")


def run(args: argparse.Namespace) -> int:
    """The server's exit status (128 + N for signal N); 1 or 2 if it cannot start, 126 or 127 if
    its command cannot."""
    import os

    import uvloop

    from sidecar.errors import SidecarError
    from sidecar.own_threads import begin_loop_threads, require_threads
    from sidecar.proxy.stdio.child import Child, CommandNotStarted, started
    from sidecar.wrap.running import run_wrapped
    from storage.errors import StoreError

    command = args.server[1:] if args.server[0] == "--" else args.server
    try:
        if not _is_name(args.name):
            return 2
        if args.import_tools:
            return _import_tools(args.name, command)
        wrapped = _wrapped(args)
        if wrapped is None:
            return 2
        require_threads()
        ends = _own_pipes()
        # Before there are threads, and so that it starts while we do.
        own = wrapped.variables
        process = started(command, {k: v for k, v in os.environ.items() if k not in own})

        async def carry() -> int:
            await begin_loop_threads()
            return await run_wrapped(wrapped, Child(process), ends, _tell(args.name))

        return uvloop.run(carry())
    except CommandNotStarted as error:
        print(f"aegis-sidecar wrap: {error}", file=sys.stderr)
        return error.status
    except SidecarError as error:
        print(f"aegis-sidecar wrap: {error}", file=sys.stderr)
        return 1
    except StoreError as error:
        print(f"aegis-sidecar wrap: {error} [{error.code}]\n    {error.next_step}", file=sys.stderr)
        return 1


def _is_name(name: str) -> bool:
    from sidecar.config.identity import NAME as NAME_FORM
    from sidecar.config.identity import NAME_RULE
    from sidecar.config.upstreams import RESERVED

    why = "the sidecar's own paths begin with it" if name in RESERVED else NAME_RULE
    if NAME_FORM.fullmatch(name) and name not in RESERVED:
        return True
    print(f"aegis-sidecar wrap: {name!r} is no name: {why}", file=sys.stderr)
    return False


def _import_tools(name: str, command: Sequence[str]) -> int:
    """Asks the server for its tools, and nothing else."""
    import os

    from sidecar.cli.tools_catalogue import render_catalogue
    from sidecar.cli.tools_import import ImportFailed
    from sidecar.cli.tools_import_stdio import run_list_tools
    from sidecar.proxy.stdio.child import started

    try:
        listing = run_list_tools(started(command, os.environ), name)
    except ImportFailed as failure:
        print(f"aegis-sidecar wrap: {failure}", file=sys.stderr)
        return 1
    draft = render_catalogue(name, listing.tools, server=listing.server, revision=listing.revision)
    for note in draft.notes:
        print(f"note: {note}", file=sys.stderr)
    sys.stdout.write(draft.text)
    return 0


def _own_pipes() -> tuple[int, int]:
    """The agent's pipes under numbers of our own. What reads standard input finds nothing from
    now on, and what a library prints goes to standard error. Raises StartRefused."""
    import os

    from sidecar.errors import StartRefused

    # The interpreter saw them first: a library's own file may have the number of one by now.
    if sys.__stdin__ is None or sys.__stdout__ is None:
        raise StartRefused("standard input or output is closed: an agent starts this")
    source, sink = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return source, sink


def _wrapped(args: argparse.Namespace) -> Wrapped | None:
    """What is to be wrapped; None after saying what is wrong with it."""
    import os
    from pathlib import Path

    from sidecar.config.load import load_config
    from sidecar.config.model import STDIO
    from sidecar.config.store_url import SQLITE
    from sidecar.policy_reading import check_entries
    from sidecar.wrap.files import default_folder, make_folder, write_first_files
    from sidecar.wrap.running import Wrapped

    folder = (
        Path(args.data_dir).absolute() if args.data_dir else default_folder(args.name, os.environ)
    )
    make_folder(folder)
    told = args.config or os.environ.get("AEGIS_CONFIG")
    path = Path(told) if told else write_first_files(folder, args.name)
    # The server is an upstream, whether the file has it or not.
    server = [f"upstreams.{args.name}.url={STDIO}", f"upstreams.{args.name}.kind=mcp"]
    loaded = load_config(path, os.environ, [*args.set, *server])
    problems = [*loaded.problems, *check_entries(loaded.entries, Path.cwd())]
    config = loaded.config
    if config is None and args.name in loaded.upstreams:
        # What is wrong with other upstreams, a secret that this agent does not have, is not ours.
        config = loaded.local
        problems = [one for one in problems if not one.message.startswith("upstreams.")]
    for problem in problems:
        print(problem, file=sys.stderr)
    if config is None or any(not problem.is_warning for problem in problems):
        return None
    has_own_store = loaded.origins.get("store") != "default"
    if not config.store.startswith(SQLITE):
        print("aegis-sidecar wrap: its store is a file: `store:` must be sqlite", file=sys.stderr)
        return None
    upstream = config.upstreams[args.name]
    return Wrapped(
        config=config,
        upstream=upstream,
        folder=None if has_own_store else folder,
        variables=loaded.variables,
    )


def _tell(name: str) -> Callable[[Config], None]:
    """The one line that says where things stand."""
    from sidecar.config.store_url import SQLITE

    def tell(config: Config) -> None:
        print(
            f"aegis-sidecar: {name} is wrapped; receipts: {config.store.removeprefix(SQLITE)}; "
            f"policies: {', '.join(config.policies)}",
            file=sys.stderr,
            flush=True,
        )

    return tell
