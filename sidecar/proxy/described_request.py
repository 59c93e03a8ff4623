"""Requests of tests and of `policy explain`, read by the very code that reads real ones.

Knows: which bytes a request described in YAML stands for, and that an upstream may take paths that
others do not. Must not know: how it is judged.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from sidecar.config.model import Limits, Upstream, UpstreamLimits
from sidecar.errors import Refused
from sidecar.model import ToolCall
from sidecar.policy.case_runner import SOURCE_IP, Route
from sidecar.policy.case_values import Request
from sidecar.policy.index import PolicySet
from sidecar.proxy.dialects import DIALECTS
from sidecar.proxy.head import HeadRules, read_head

_HOST = "127.0.0.1"
_CALL_ID = "0" * 32
_NOT_SENT = "http://127.0.0.1:9"


class Paths(NamedTuple):
    """The upstreams that take an encoded slash, and those that take `;`, in a segment."""

    encoded_slash: Collection[str] = ()
    path_parameters: Collection[str] = ()


#: Where no configuration is known.
STRICT_PATHS: Final = Paths()


def paths_of(upstreams: Mapping[str, Upstream]) -> Paths:
    """What a configuration says of them."""
    return Paths(
        sorted(name for name, one in upstreams.items() if one.encoded_slash),
        sorted(name for name, one in upstreams.items() if one.path_parameters),
    )


def routing(paths: Paths) -> Route:
    """`route_request` where upstreams take such paths."""
    return partial(route_request, paths=paths)


def route_request(
    policy_set: PolicySet,
    kinds: Mapping[str, str],
    request: Request,
    http: Mapping[str, Any],
    paths: Paths = STRICT_PATHS,
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
        HeadRules(
            frozenset({_HOST}),
            encoded_slash=frozenset(paths.encoded_slash),
            path_parameters=frozenset(paths.path_parameters),
        ),
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
