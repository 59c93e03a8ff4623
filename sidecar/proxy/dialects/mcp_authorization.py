"""A client asks what it must know to log in at an MCP server: the one GET beside the endpoint.

Knows: that it carries the protocol itself, as `initialize` does: it needs no rule, and it is
recorded, because it reaches the upstream; that the agent's credentials do not go with it.
Must not know: what the answer looks like, where the upstream keeps it.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from sidecar.config.model import Upstream
from sidecar.errors import Refused
from sidecar.model import ToolCall
from sidecar.policy.catalogue import Catalogue
from sidecar.policy.protocol_methods import METADATA
from sidecar.proxy.dialects.context import http_facts, run_id, trace_id
from sidecar.proxy.head import RequestHead
from sidecar.proxy.protected_resource import WELL_KNOWN, WELL_KNOWN_PATH

_PLACE: Final = WELL_KNOWN[1:]
LOOKUP_HEADERS: Final = (("Accept", "application/json"),)


def asks_for_metadata(head: RequestHead) -> bool:
    """Whether a request to an MCP upstream is for its metadata and not for its endpoint."""
    return head.segments[:2] == _PLACE


def read_metadata_call(
    head: RequestHead, body: bytes, upstream: Upstream, catalogue: Catalogue, call_id: str
) -> ToolCall:
    """The call; its argument is the URL that the agent calls the upstream by. Raises Refused."""
    resource = resource_of(head, upstream)
    if body:
        raise Refused("malformed_request", "Metadata takes no body")
    return ToolCall(
        call_id=call_id,
        tool=catalogue.mcp_method(upstream.name, METADATA).tool,
        action=METADATA,
        args={"resource": resource},
        http=http_facts(head),
        target=head.target,
        headers=LOOKUP_HEADERS,
        body=b"",
        dialect="mcp",
        run_id=run_id(head),
        trace_id=trace_id(head),
        is_protocol=True,
    )


def resource_of(head: RequestHead, upstream: Upstream) -> str:
    """The URL by which whoever asks for metadata calls the upstream; raises Refused."""
    endpoint = head.segments[2:]
    own_path = tuple(urlsplit(upstream.url).path.strip("/").split("/"))
    if endpoint not in ((), ("mcp",), own_path) or upstream.auth is not None:
        raise Refused("unknown_upstream", "There is nothing to log in to at this address")
    if head.method != "GET":
        raise Refused("method_not_allowed")
    if head.query:
        raise Refused("malformed_request", "Metadata takes no query")
    path = head.target.removeprefix(WELL_KNOWN_PATH).removesuffix("/")
    return f"{head.origin}{head.mount}{path}"
