"""A sidecar with a fault built in, to prove that the wire run finds it. Never part of the product.

first-of-batch    the first message of a batch is judged, the batch is forwarded
undecoded-path    the path is matched and judged as it was received, escapes and all
trusted-name      the tool's name is taken from `Mcp-Name`
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sidecar.cli.main import main
from sidecar.proxy import head, target
from sidecar.proxy.dialects import mcp, mcp_headers, mcp_message


def first_of_batch() -> None:
    parse = mcp_message.parse

    def first(body: bytes, *bounds: int) -> Any:
        document = parse(body, *bounds)
        return document[0] if type(document) is list and document else document

    mcp_message.parse = first


def undecoded_path() -> None:
    read = head.read_target

    def raw(raw_target: str, parameters_max: int) -> tuple[target.Path, str]:
        path, query = read(raw_target, parameters_max)
        segments = tuple(segment for segment in path.rest.split("/") if segment)
        return replace(path, segments=segments, decoded=path.rest or "/"), query

    head.read_target = raw


def trusted_name() -> None:
    read_post = mcp._read_post

    def trusting(request_head: Any, *rest: Any) -> Any:
        said = request_head.first.get("mcp-name")

        def read_tool_call(message: mcp_message.Message) -> tuple[str, dict[str, Any]]:
            name, arguments = mcp_message.read_tool_call(message)
            return (mcp_headers.decode(said) or name) if said else name, arguments

        mcp.read_tool_call = read_tool_call
        return read_post(request_head, *rest)

    mcp._read_post = trusting
    mcp.require_agreement = lambda _head, _message: None


FAULTS = {
    "first-of-batch": first_of_batch,
    "undecoded-path": undecoded_path,
    "trusted-name": trusted_name,
}

if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)]()
    sys.exit(main(sys.argv[1:]))
