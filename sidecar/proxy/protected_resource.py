"""What an MCP server says of its authorization, seen from the agent's side of the sidecar.

Knows: the metadata of a protected resource (RFC 9728), where a client looks for it, and the
challenge that names it (RFC 6750, RFC 9728 section 5.1). Only what names the server's own address
is made another: the `resource`, which a client compares with the URL it used, and where the
metadata is found. Authorization servers stay what they are; an agent talks to them itself.
Must not know: sockets, who asks, policies.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import orjson

from sidecar.errors import Refused
from sidecar.proxy.location import Base, read_base
from sidecar.proxy.strict_json import parse

#: Below it, at the root of an origin, stands the metadata of a resource with the same path.
WELL_KNOWN = ("", ".well-known", "oauth-protected-resource")
WELL_KNOWN_PATH = "/".join(WELL_KNOWN)
METADATA_DEPTH_MAX = 16

#: A quoted string is one thing, so that what stands in one is not taken for a parameter; one that
#: does not end goes to the end: nothing is looked at twice.
_QUOTED = r'"(?:[^"\\]|\\.?)*+(?:"|\Z)'
_NAMED = re.compile(
    rf"({_QUOTED})|\b(resource_metadata)\s*=\s*({_QUOTED}|[^\s,\"]+)", re.IGNORECASE
)
_BEARER = re.compile(r"(?:^|,)\s*Bearer(?:\s|$)", re.IGNORECASE)


def mapped_challenge(value: str, metadata_url: str) -> tuple[str, str | None]:
    """A `WWW-Authenticate` value whose metadata is found at `metadata_url`, and where it was found
    before; None where the value names none."""
    found: list[str] = []

    def mapped(match: re.Match[str]) -> str:
        if match[1] is not None:
            return match[0]
        found.append(match[3].strip('"'))
        return f'{match[2]}="{metadata_url}"'

    if not _BEARER.search(value):
        return value, None
    changed = _NAMED.sub(mapped, value)
    return changed, found[0] if found else None


def path_at(url: str, upstream_url: str) -> str | None:
    """The path of a metadata URL at the upstream's own origin; None if it is elsewhere or odd."""
    try:
        there, own = read_base(url), read_base(upstream_url)
        parts = urlsplit(url)
    except ValueError:
        return None
    is_own = (there.scheme, there.host, there.port) == (own.scheme, own.host, own.port)
    is_plain = not (parts.query or parts.fragment or "@" in parts.netloc)
    return parts.path if is_own and is_plain and _PATH.fullmatch(parts.path) else None


_PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*|/\.well-known)+")


def origin_of(url: str) -> str:
    """The origin of an upstream's URL."""
    base = read_base(url)
    return f"{base.scheme}://{base.authority}"


def places_of(upstream_url: str) -> tuple[str, ...]:
    """Paths at which an upstream's metadata may stand, in the order in which clients try them."""
    path = read_base(upstream_url).path
    return (WELL_KNOWN_PATH + path, WELL_KNOWN_PATH) if path else (WELL_KNOWN_PATH,)


def mapped_metadata(body: bytes, upstream_url: str, resource: str) -> tuple[bytes, list[str]]:
    """The metadata as an agent that used the URL `resource` may believe it, and the addresses of
    the authorization servers.

    Raises Refused("metadata_unusable") for what is no metadata of this upstream (RFC 9728 section
    3.3: then it must not be used).
    """
    try:
        found = parse(body, METADATA_DEPTH_MAX)
    except Refused as refused:
        raise _unusable(refused.reason) from None
    if not isinstance(found, dict):
        raise _unusable("it is no object")
    if not _covers(found.get("resource"), read_base(upstream_url)):
        raise _unusable("its resource is not this upstream")
    servers = found.get("authorization_servers", [])
    if not isinstance(servers, list) or not all(_is_server(one) for one in servers):
        raise _unusable("its authorization servers are no URLs")
    if "signed_metadata" in found:
        raise _unusable("it is signed, so that its resource cannot be made another")
    return orjson.dumps({**found, "resource": resource}), servers


def is_at(servers: Sequence[str], upstream_url: str) -> bool:
    """Whether one of these authorization servers stands at the upstream's own origin."""
    own = read_base(upstream_url)
    there = [read_base(one) for one in servers]
    return any(
        (one.scheme, one.host, one.port) == (own.scheme, own.host, own.port) for one in there
    )


def _covers(resource: Any, base: Base) -> bool:
    """Whether a resource is the endpoint at `base` or one above it (RFC 8707 section 2)."""
    try:
        there = read_base(resource) if isinstance(resource, str) else None
    except ValueError:
        return False
    return (
        there is not None
        and (there.scheme, there.host, there.port) == (base.scheme, base.host, base.port)
        and f"{base.path}/".startswith(f"{there.path}/")
    )


def _is_server(url: Any) -> bool:
    try:
        return isinstance(url, str) and bool(read_base(url).host)
    except ValueError:
        return False


def _unusable(detail: str) -> Refused:
    return Refused("metadata_unusable", detail=detail)
