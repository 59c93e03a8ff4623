"""Messages of our own to an MCP server, in the session of an agent who is calling it.

Knows: which headers of a call belong to that message alone, and that in a stateless revision the
headers repeat what the body says.
Must not know: why something is said, sockets, policies.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sidecar.model import ToolCall
from sidecar.proxy.dialects.mcp_headers import VERSION_HEADER, is_stateless

#: Of a call's headers, those that do not fit a message of our own.
_OF_THE_CALL: Final = frozenset(
    {"accept", "content-type", "idempotency-key", "last-event-id", "mcp-method", "mcp-name"}
)
_OF_A_MESSAGE: Final = (
    ("Content-Type", "application/json"),
    ("Accept", "application/json, text/event-stream"),
)


def headers_beside(call: ToolCall, *more: tuple[str, str]) -> list[tuple[str, str]]:
    """The headers of a message beside this call: its session and its credential stay."""
    kept: Iterable[tuple[str, str]] = (
        pair
        for pair in call.headers
        if (name := pair[0].lower()) not in _OF_THE_CALL and name[:10] != "mcp-param-"
    )
    return [*kept, *more, *_OF_A_MESSAGE]


def speaks_stateless(call: ToolCall) -> bool:
    """Whether the call is of a revision whose headers name the method."""
    return is_stateless(call.http.headers.get(VERSION_HEADER))
