"""Where a WebDAV request copies or moves to (RFC 4918 section 10.3): a second address, in a header.

Knows: that a client writes the URL it knows there, which is ours, and that the upstream knows its
own only: one of another host is refused, or read as a path that is not meant. It is read as
strictly as the request's own path, since rules read it.
Must not know: rules, sockets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sidecar.errors import Refused
from sidecar.proxy.head import RequestHead
from sidecar.proxy.location import read_base
from sidecar.proxy.target import read_target

if TYPE_CHECKING:
    from sidecar.config.model import Upstream

DESTINATION = "destination"
#: What says in headers where it leads to, and how: an approval is of these too.
MOVING_METHODS = frozenset({"COPY", "MOVE"})
MOVING_HEADERS = ("depth", DESTINATION, "overwrite")


def with_destination(
    headers: tuple[tuple[str, str], ...], head: RequestHead, upstream: Upstream
) -> tuple[tuple[str, str], ...]:
    """The headers of a request that has a Destination, as the upstream is to read it. One of a
    foreign host stays as it is.

    Raises Refused: ambiguous_header, ambiguous_path, invalid_argument, malformed_request.
    """
    if head.header_count(DESTINATION) > 1:
        raise Refused("ambiguous_header", "Destination is there twice")
    seen = _seen_by(upstream, head, head.first[DESTINATION])
    return tuple(
        [(name, seen if name.lower() == DESTINATION else value) for name, value in headers]
    )


def _seen_by(upstream: Upstream, head: RequestHead, value: str) -> str:
    path = _own_path(value, head)
    if path is None:
        return value
    if "?" in path:
        raise Refused("invalid_argument", "Destination has a query")
    found, _ = read_target(path if head.mount else f"/{upstream.name}{path}", 1)
    if found.upstream != upstream.name:
        raise Refused("invalid_argument", f"Destination leads out of {head.mount}")
    if found.has_encoded_slash and not upstream.encoded_slash:
        raise Refused("ambiguous_path", "A segment of Destination has an encoded slash")
    if found.has_parameters and not upstream.path_parameters:
        raise Refused("ambiguous_path", "A segment of Destination has a `;`: write it as %3B")
    base = read_base(upstream.url)
    return f"{base.scheme}://{base.authority}{base.path}{found.rest}"


def _own_path(value: str, head: RequestHead) -> str | None:
    """Path and query of an address here; None for one elsewhere. What ends TLS in front of us lets
    clients write https."""
    if value[:1] == "/" and value[:2] != "//":
        return value
    try:
        place = urlsplit(value)
    except ValueError:
        return None
    if place.scheme not in ("http", "https") or place.netloc.lower() != head.first["host"].lower():
        return None
    return value.partition("://")[2][len(place.netloc) :] or "/"
