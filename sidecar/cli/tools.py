"""`aegis-sidecar tools import`: a first catalogue from what an MCP server lists.

Knows: arguments, files and exit codes of the command.
Must not know: the protocol (tools_import), the catalogue's form (tools_catalogue).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.config.model import Upstream

NAME = "tools"
HELP = "write a first tool catalogue from an MCP server's own list"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`tools import --upstream NAME [--config FILE] [--output FILE] [--force]`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    importing = actions.add_parser(
        "import",
        help="ask the MCP server of an upstream for its tools",
        description="Asks the MCP server of an upstream for its tools and writes a catalogue "
        "for review. What the server says of itself never makes an entry looser.",
    )
    importing.add_argument("--upstream", required=True, metavar="NAME", help="as in sidecar.yaml")
    importing.add_argument("--config", default="sidecar.yaml", metavar="FILE", type=Path)
    importing.add_argument(
        "--output", metavar="FILE", type=Path, help="write there instead of standard output"
    )
    importing.add_argument(
        "--force", action="store_true", help="overwrite --output if it is there already"
    )


def run(args: argparse.Namespace) -> int:
    """0 written, 1 the server could not be asked, 2 usage or configuration."""
    output: Path | None = args.output
    if output is not None and output.exists() and not args.force:
        return _fail(2, f"{output} is there already; --force overwrites it")
    upstream = _upstream(args.config, args.upstream)
    if isinstance(upstream, str):
        return _fail(2, upstream)
    from sidecar.cli.tools_catalogue import render_catalogue
    from sidecar.cli.tools_import import ImportFailed, run_list_tools

    headers = {}
    if upstream.auth is not None:
        headers[upstream.auth.header_name] = upstream.auth.header_value.reveal()
    try:
        listing = run_list_tools(upstream.url, headers)
    except ImportFailed as failure:
        return _fail(1, str(failure))
    draft = render_catalogue(
        upstream.name, listing.tools, server=listing.server, revision=listing.revision
    )
    for note in draft.notes:
        print(f"note: {note}", file=sys.stderr)
    if output is None:
        sys.stdout.write(draft.text)
        return 0
    try:
        _write(output, draft.text)
    except OSError as error:
        return _fail(2, f"{output} cannot be written: {error.strerror}")
    print(
        f"{draft.tool_count} tools written to {output}: read them through, then check with "
        f"`aegis-sidecar policy check {output.parent}`"
    )
    return 0


def _upstream(config_file: Path, name: str) -> Upstream | str:
    """The upstream to ask, or why there is none."""
    from sidecar.config.load import load_config

    loaded = load_config(config_file, os.environ, ())
    if loaded.config is None:
        return "\n".join(str(problem) for problem in loaded.problems)
    upstream = loaded.config.upstreams.get(name)
    if upstream is None:
        known = ", ".join(sorted(loaded.config.upstreams))
        return f"{config_file} has no upstream {name!r}; it has: {known}"
    if upstream.kind != "mcp":
        return f"upstream {name} is of kind {upstream.kind}; only an MCP server lists its tools"
    return upstream


def _write(path: Path, text: str) -> None:
    """Whole or not at all: a reader of the policies folder never sees half a catalogue."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(draft).chmod(0o644)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def _fail(code: int, message: str) -> int:
    print(message, file=sys.stderr)
    return code
