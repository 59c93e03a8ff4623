"""Which headers pass, in both directions.

Knows: the hop-by-hop headers (RFC 9110 section 7.6.1), the ones that would let an agent speak with
another's voice, and the ones in a reply that name addresses.
Must not know: sockets, bodies, policies; and no credential of ours: the upstream leg adds those.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from sidecar.errors import Refused
from sidecar.proxy.head import PLAIN_CONNECTION, RequestHead, connection_tokens
from sidecar.proxy.location import (
    Base,
    led_through,
    read_base,
    rewrite,
    rewrite_links,
    scope_cookie,
)

if TYPE_CHECKING:
    from sidecar.config.model import Upstream
    from sidecar.proxy.upstream import Reply

CALL_ID_HEADER = "Aegis-Call-Id"

HOP_BY_HOP = frozenset(
    {
        "connection",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

#: Framing is made anew per leg; the rest claims to be someone or somewhere else.
_NOT_FORWARDED = HOP_BY_HOP | {
    "cf-connecting-ip",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
}
#: What begins like the credentials for a proxy was meant for one, however its name is spelt.
_NOT_FORWARDED_PREFIXES = ("aegis-", "x-forwarded-", "proxy-auth")

#: What would bring back an answer that cannot be read.
_OF_THE_ANSWER = frozenset({"accept-encoding", "range", "if-range"})

#: Whole URLs that clients of their vendors go on with by themselves: Microsoft's ask there how far
#: a long operation is, Google's send what they upload.
_GONE_ON_WITH = frozenset(
    {"azure-asyncoperation", "operation-location", "x-goog-upload-control-url", "x-goog-upload-url"}
)
#: Reply headers that need more than a look at their name.
_ADDRESSES = _GONE_ON_WITH | {"location", "content-location", "link", "set-cookie"}


_NONE: frozenset[str] = frozenset()


@lru_cache(maxsize=2048)
def _passes_upstream(name: str) -> bool:
    lower = name.lower()
    return lower not in _NOT_FORWARDED and not lower.startswith(_NOT_FORWARDED_PREFIXES)


@lru_cache(maxsize=2048)
def _passes_back(name: str) -> bool:
    lower = name.lower()
    return lower not in HOP_BY_HOP and not lower.startswith("aegis-")


@lru_cache(maxsize=2048)
def _lower(name: str) -> str:
    return name.lower()


def forward_headers(head: RequestHead, upstream: Upstream) -> tuple[tuple[str, str], ...]:
    """The end-to-end headers of a request, in order, as received.

    Left out: hop-by-hop ones and those that `Connection` names, framing, ours, those by which an
    agent could claim another identity, method or address, and the one the sidecar sets itself.
    """
    own = _set_by_us(upstream)
    connection = head.first.get("connection")
    named = _named_in_connection(head.headers, connection) if connection is not None else None
    if not own and not named:
        return tuple([pair for pair in head.headers if _passes_upstream(pair[0])])
    return tuple(
        [
            pair
            for pair in head.headers
            if _passes_upstream(pair[0])
            and _lower(pair[0]) not in own
            and not (named and _lower(pair[0]) in named)
        ]
    )


def _set_by_us(upstream: Upstream) -> frozenset[str]:
    """Where the sidecar sends a credential of its own: that header, and whatever the agent says in
    `Authorization`, which is for the sidecar to read there. To some servers `api_key` and `api-key`
    are one; no agent's header has an underscore."""
    if upstream.auth is None:
        return _NONE
    own = upstream.auth.header_name.lower()
    return frozenset({own, own.replace("_", "-"), "authorization"})


def readable(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The headers of a request whose answer will be looked into: whole and not compressed."""
    kept = [pair for pair in headers if _lower(pair[0]) not in _OF_THE_ANSWER]
    return (*kept, ("Accept-Encoding", "identity"))


def plain(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The headers of a request whose answer is measured: not compressed."""
    kept = [pair for pair in headers if _lower(pair[0]) != "accept-encoding"]
    return (*kept, ("Accept-Encoding", "identity"))


def reply_headers(
    reply: Reply, upstream: Upstream, head: RequestHead, call_id: str
) -> list[tuple[str, str]]:
    """The end-to-end headers of a reply, addresses seen from the agent's side, plus the call id.

    Raises Refused: redirect_refused where a redirect leaves the upstream, or leads round in a
    circle; upstream_broken where its Location is malformed.
    """
    headers: list[tuple[str, str]] = []
    named: set[str] | None = None
    for name, value in reply.headers:
        lower = _lower(name)
        if lower == "connection" and named is None and value not in PLAIN_CONNECTION:
            named = _named_in_connection(reply.headers, value)
        if not _passes_back(name):
            continue
        if lower in _ADDRESSES:
            seen = _address(lower, value, reply.status, upstream, head)
            if seen is None:
                continue
            value = seen
        headers.append((name, value))
    if named:
        headers = [pair for pair in headers if _lower(pair[0]) not in named]
    headers.append((CALL_ID_HEADER, call_id))
    return headers


def _named_in_connection(headers: tuple[tuple[str, str], ...], first: str) -> set[str]:
    if first in PLAIN_CONNECTION and _stands_once(headers):
        return set()
    return connection_tokens(headers) - {"close", "keep-alive", "content-length"}


def _stands_once(headers: tuple[tuple[str, str], ...]) -> bool:
    return [name.lower() for name, _ in headers].count("connection") == 1


def _address(
    lower: str, value: str, status: int, upstream: Upstream, head: RequestHead
) -> str | None:
    base = read_base(upstream.url)
    if lower == "set-cookie":
        is_secured = head.scheme == "https"
        return scope_cookie(value, mount=head.mount, base=base, is_secured=is_secured)
    if lower == "link" or lower in _GONE_ON_WITH:
        if upstream.query:  # what we added may stand in there
            return None
        way = {"mount": head.mount, "origin": head.origin, "target": head.target}
        if lower == "link":
            return rewrite_links(value, base=base, **way)
        return led_through(value, base=base, **way) if _is_whole(value) else value
    if upstream.query:  # as above, and no agent sends a query there
        value = value.partition("#")[0].partition("?")[0]
    if upstream.kind == "mcp" and lower == "location" and 300 <= status < 400:
        _require_endpoint(value, upstream.url)
    try:
        seen = _rewritten(value, upstream, base, head)
        if lower == "location" and not 300 <= status < 400 and seen[:1] == "/" and _is_whole(value):
            # Not for HTTP to follow, but for a program, to many of which it has to be a whole URL:
            # Google's clients send what they upload there, Azure's join a path to their base.
            return head.origin + seen
        return seen
    except Refused:
        if lower == "content-location":
            return None
        if 300 <= status < 400:
            raise
        # A 201 may name what it made by a public name; nobody follows that by itself.
        return value


def _is_whole(reference: str) -> bool:
    return reference[:7].lower() == "http://" or reference[:8].lower() == "https://"


def _require_endpoint(location: str, url: str) -> None:
    """Whoever calls an MCP server by another path has its one endpoint all the same, and would be
    sent there for ever. Raises Refused."""
    try:
        there, endpoint = urlsplit(urljoin(url, location)).path, urlsplit(url).path
    except ValueError:
        return  # as malformed it is refused by whoever reads it
    if there != endpoint and there.rstrip("/") == endpoint.rstrip("/"):
        raise Refused(
            "redirect_refused",
            "The MCP server's endpoint ends with a slash, or without one, otherwise than the "
            "operator wrote it in `upstreams.NAME.url`",
        )


def _rewritten(value: str, upstream: Upstream, base: Base, head: RequestHead) -> str:
    return rewrite(
        value, mount=head.mount, base=base, target=head.target, redirects=upstream.redirects
    )
