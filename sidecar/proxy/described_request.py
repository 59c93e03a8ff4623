"""Requests of tests and of `policy explain`, read by the very code that reads real ones.

Knows: which bytes a request described in YAML stands for. Must not know: how it is judged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sidecar.config.model import Limits, Upstream, UpstreamLimits
from sidecar.errors import Refused
from sidecar.model import ToolCall
from sidecar.policy.case_runner import SOURCE_IP
from sidecar.policy.case_values import Request
from sidecar.policy.index import PolicySet
from sidecar.proxy.dialects import DIALECTS
from sidecar.proxy.head import HeadRules, read_head

_HOST = "127.0.0.1"
_CALL_ID = "0" * 32
_NOT_SENT = "http://127.0.0.1:9"


def route_request(
    policy_set: PolicySet,
    kinds: Mapping[str, str],
    request: Request,
    http: Mapping[str, Any],
) -> ToolCall:
    """The call that a request becomes, or the Refused that it meets before any rule."""
    body, media = _body(request.body)
    headers = {"host": _HOST, **({"content-type": media} if media else {})}
    headers |= http.get("headers", {})
    head = read_head(
        request.method,
        request.path,
        (1, 1),
        [(name.encode(), value.encode()) for name, value in headers.items()],
        http.get("source_ip", SOURCE_IP),
        HeadRules(frozenset({_HOST})),
    )
    kind = kinds.get(head.upstream)
    if kind not in DIALECTS:
        raise Refused("unknown_upstream")
    limits = Limits()
    upstream = Upstream(
        name=head.upstream,
        url=_NOT_SENT,
        kind="mcp" if kind == "mcp" else "rest",
        limits=UpstreamLimits(request_bytes=limits.request_bytes),
    )
    return DIALECTS[kind].read_call(head, body, upstream, policy_set, limits, _CALL_ID)


def _body(value: Any) -> tuple[bytes, str]:
    """The bytes of a body and the media type they are sent as, if that goes without saying."""
    if value is None:
        return b"", ""
    if isinstance(value, str):
        return value.encode(), ""
    return json.dumps(value, ensure_ascii=False).encode(), "application/json"
