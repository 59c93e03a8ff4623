"""Operations of MCP that tests call by name, as the messages they are sent as.

Knows: which of them may carry the protocol itself, and so go ahead by no rule. Whether one does is
for whoever reads requests to say: a test of a rule that no message meets must not pass.
Must not know: what a message must hold, how it is read, rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sidecar.policy.case_values import Request
from sidecar.policy.matchers import MCP_PREFIX
from sidecar.policy.protocol_methods import (
    PROTOCOL_NOTIFICATIONS,
    PROTOCOL_REQUESTS,
    RESPONSE,
    SESSION_END,
    STREAM,
)

_BODILESS: Final = {STREAM: "GET", SESSION_END: "DELETE"}


def protocol_request(name: str, params: Mapping[str, Any]) -> Request | None:
    """The request that a named operation comes as; None of one that is always judged."""
    upstream, _, method = name.partition(f"/{MCP_PREFIX}")
    path = f"/{upstream}/mcp"
    if method in _BODILESS:
        return Request(_BODILESS[method], path)
    if method == RESPONSE:
        body = {"id": 1, **(params or {"result": {}})}
    elif method in PROTOCOL_REQUESTS:
        body = {"id": 1, "method": method, "params": params}
    elif method in PROTOCOL_NOTIFICATIONS:
        body = {"method": method, "params": params}
    else:
        return None
    return Request("POST", path, {"jsonrpc": "2.0", **body})
