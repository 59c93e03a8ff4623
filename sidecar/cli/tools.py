"""`aegis-sidecar tools`: a first catalogue, from OpenAPI or what an MCP server lists (`import`),
and whether a server's tools are still what they were (`diff`, `accept`, `forget`).

Knows: arguments, files and exit codes of the command.
Must not know: the protocol (tools_import), the document's form (tools_openapi), the catalogue's
(tools_catalogue, tools_openapi_catalogue), pins (tools_pins).
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.cli.tools_pins import add_pin_arguments, run_pins
from sidecar.counted import counted

if TYPE_CHECKING:
    from sidecar.cli.catalogue_text import Draft
    from sidecar.config.load import Loaded

NAME = "tools"
HELP = "write a first catalogue; see what an MCP server's tools have become"


class _Failed(Exception):
    """Nothing is written; the exit code, and why."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`tools import [DOCUMENT] --upstream NAME [--config FILE] [--output FILE] [--force]`, and of
    pins."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    importing = actions.add_parser(
        "import",
        help="write a first catalogue of an upstream's tools, for review",
        description="Reads an OpenAPI 3.0 or 3.1 document of a REST upstream, or asks an MCP "
        "upstream for its tools, and writes a catalogue for review. What a document or a server "
        "says of itself never makes an entry looser.",
    )
    importing.add_argument(
        "document",
        nargs="?",
        metavar="DOCUMENT",
        type=Path,
        help="the OpenAPI document, JSON or YAML (an MCP upstream has none)",
    )
    importing.add_argument("--upstream", required=True, metavar="NAME", help="as in sidecar.yaml")
    importing.add_argument(
        "--config",
        metavar="FILE",
        help="path of sidecar.yaml (default: AEGIS_CONFIG, ./sidecar.yaml)",
    )
    importing.add_argument(
        "--output", metavar="FILE", type=Path, help="write there instead of standard output"
    )
    importing.add_argument(
        "--force", action="store_true", help="overwrite --output if it is there already"
    )
    add_pin_arguments(actions)


def run(args: argparse.Namespace) -> int:
    """0 written, 1 the server could not be asked or the document not used, 2 usage or
    configuration; of pins see there."""
    if args.action != "import":
        return run_pins(args)
    output: Path | None = args.output
    config = Path(args.config or os.environ.get("AEGIS_CONFIG") or "sidecar.yaml")
    try:
        if output is not None and output.exists() and not args.force:
            raise _Failed(2, f"{output} is there already; --force overwrites it")
        loaded = _loaded(config, args.upstream)
        if args.document is None:
            draft = _asked(config, loaded, args.upstream)
        else:
            draft = _read(args.document, loaded, args.upstream)
    except _Failed as failed:
        return _fail(failed.code, str(failed))
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
        f"{counted(draft.tool_count, 'tool')} written to {output}: read them through, "
        "then check with "
        f"`aegis-sidecar policy check {shlex.quote(str(output.parent))}`"
    )
    return 0


def _loaded(config_file: Path, name: str) -> Loaded:
    """The configuration, in which an upstream of this name is at least named."""
    from sidecar.config.load import load_config

    loaded = load_config(config_file, os.environ, ())
    if name in loaded.kinds:
        return loaded
    if not loaded.kinds:
        raise _Failed(2, "\n".join(str(problem) for problem in loaded.problems))
    known = ", ".join(sorted(loaded.kinds))
    raise _Failed(2, f"{config_file} has no upstream {name!r}; it has: {known}")


def _asked(config_file: Path, loaded: Loaded, name: str) -> Draft:
    """What an MCP upstream lists. Only its own part of the configuration must be right: the
    secrets of others are not asked for."""
    from sidecar.cli.tools_catalogue import render_catalogue
    from sidecar.cli.tools_import import ImportFailed, run_list_tools
    from sidecar.config.model import AUTHORIZE, STDIO

    if loaded.kinds[name] == AUTHORIZE:
        raise _Failed(2, _ask_nobody(name))
    if loaded.kinds[name] != "mcp":
        raise _Failed(
            2,
            f"upstream {name} is of kind {loaded.kinds[name]}; only an MCP server lists its tools: "
            "name an OpenAPI document",
        )
    upstream = loaded.upstreams.get(name)
    if upstream is None:
        own = [one for one in loaded.problems if f"upstreams.{name}" in one.message]
        raise _Failed(2, "\n".join(str(problem) for problem in own or loaded.problems))
    if upstream.url == STDIO:
        raise _Failed(
            2,
            f"upstream {name} is a stdio server, which has no URL to ask: "
            f"`aegis-sidecar wrap --name {name} --import-tools -- COMMAND` asks it",
        )
    headers = {}
    if upstream.auth is not None:
        headers[upstream.auth.header_name] = upstream.auth.header_value.reveal()
    try:
        listing = run_list_tools(upstream.url, headers, upstream.own_query)
    except ImportFailed as failure:
        raise _Failed(1, str(failure)) from None
    return render_catalogue(name, listing.tools, server=listing.server, revision=listing.revision)


def _read(document: Path, loaded: Loaded, name: str) -> Draft:
    """What a document says of the operations of a REST upstream; no secret is needed."""
    from sidecar.cli.catalogue_text import NOTE_LENGTH_MAX, comment
    from sidecar.cli.tools_openapi import survey
    from sidecar.cli.tools_openapi_catalogue import render_openapi
    from sidecar.config.model import AUTHORIZE
    from sidecar.policy.openapi import Document
    from sidecar.policy.openapi_text import DOCUMENT_BYTES_MAX, BadDocument, parse_document

    if loaded.kinds[name] == AUTHORIZE:
        raise _Failed(2, _ask_nobody(name))
    if loaded.kinds[name] != "rest":
        raise _Failed(2, f"upstream {name} is of kind {loaded.kinds[name]}: leave the document out")
    try:
        with document.open("rb") as file:
            data = file.read(DOCUMENT_BYTES_MAX + 1)
        upstream = loaded.upstreams.get(name)
        found = survey(Document(parse_document(data)))
        return render_openapi(name, upstream.url if upstream else "", found)
    except OSError as error:
        raise _Failed(2, f"{document} cannot be read: {error.strerror}") from None
    except BadDocument as reason:
        raise _Failed(1, f"{document}: {comment(str(reason), NOTE_LENGTH_MAX)}") from None


def _ask_nobody(name: str) -> str:
    return (
        f"upstream {name} is of kind authorize: no server lists its tools. "
        f"Write its catalogue yourself: `catalogue: {name}`, and each tool under `tools:`"
    )


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
