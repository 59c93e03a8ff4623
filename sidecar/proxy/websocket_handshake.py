"""The opening handshake of a WebSocket, on both sides of the sidecar.

Knows: RFC 6455 sections 4.1 and 4.2: what a client must send, and what of an upstream's 101 proves
that it understood. Extensions are not let through: with permessage-deflate a kilobyte may be a
gigabyte at its end, so that no limit on what passes would say anything; RFC 6455 lets any server
decline them, and every client goes on without.
Must not know: sockets, frames, which routes may upgrade, policies.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence

from sidecar.errors import Refused

Headers = Sequence[tuple[str, str]]

VERSION = "13"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONNECTION = frozenset({"upgrade", "keep-alive"})
#: Some clients ask for it by themselves with each request over plain http, and tell nobody.
_H2C = (
    "HTTP/2 is not spoken here: have the client send HTTP/1.1, of Java's HttpClient with "
    "version(HTTP_1_1)"
)
_NOT_OFFERED = frozenset({"sec-websocket-extensions"})
#: Says how a body ends; a handshake has none, and neither has its answer.
_FRAMING = frozenset({"content-length", "transfer-encoding"})


def require_handshake(
    method: str, version: tuple[int, int], first: Mapping[str, str], headers: Headers
) -> None:
    """Raises Refused unless a head with `Upgrade` is a client's handshake and nothing else.

    `first` holds the first value of each header by its lower-case name: upgrade_refused for
    another protocol, method or version of HTTP, and for a body; bad_handshake for a malformed one.
    """
    if first["upgrade"].lower() == "h2c":
        raise Refused("upgrade_refused", _H2C)
    if (
        len(_values(headers, "upgrade")) != 1
        or first["upgrade"].lower() != "websocket"
        or method != "GET"
        or version != (1, 1)
        or "transfer-encoding" in first
        or first.get("content-length", "0") != "0"
    ):
        raise Refused("upgrade_refused")
    connection = set(_listed(headers, "connection"))
    if "upgrade" not in connection or not connection <= _CONNECTION:
        raise Refused("bad_handshake", "Connection must name Upgrade and nothing else")
    if _values(headers, "sec-websocket-version") != [VERSION]:
        raise Refused("bad_handshake", "Sec-WebSocket-Version must be 13")
    keys = _values(headers, "sec-websocket-key")
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise Refused("bad_handshake", "Sec-WebSocket-Key must be 16 bytes in base64")
    if "sec-websocket-accept" in first:
        raise Refused("bad_handshake", "Sec-WebSocket-Accept belongs to the answer")
    protocols = _protocols(headers)
    if not all(map(_TOKEN.fullmatch, protocols)) or len(set(protocols)) != len(protocols):
        raise Refused("bad_handshake", "Sec-WebSocket-Protocol must list different tokens")


def offered(headers: Headers) -> tuple[tuple[str, str], ...]:
    """The headers of a handshake to forward, from those that pass end to end anyway."""
    return (
        *(pair for pair in headers if pair[0].lower() not in _NOT_OFFERED),
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
    )


def require_agreement(sent: Headers, received: Headers) -> None:
    """Raises Refused("upstream_broken") unless a 101 with the headers `received` agrees to the
    handshake `sent`, and to nothing that was not asked for."""
    key = _values(sent, "sec-websocket-key")[0]
    protocols = _values(received, "sec-websocket-protocol")
    is_agreed = (
        [value.lower() for value in _values(received, "upgrade")] == ["websocket"]
        and "upgrade" in _listed(received, "connection")
        and _values(received, "sec-websocket-accept") == [accept_of(key)]
        and (not protocols or (len(protocols) == 1 and protocols[0] in _protocols(sent)))
        and not _values(received, "sec-websocket-extensions")
        and not any(name.lower() in _FRAMING for name, _ in received)
    )
    if not is_agreed:
        raise Refused(
            "upstream_broken", "The upstream's answer to the WebSocket handshake is wrong"
        )


def accept_of(key: str) -> str:
    """The proof that a key was read (RFC 6455 section 4.2.2)."""
    digest = hashlib.sha1(key.encode("ascii") + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode("ascii")


def _values(headers: Headers, name_lower: str) -> list[str]:
    return [value for name, value in headers if name.lower() == name_lower]


def _listed(headers: Headers, name_lower: str) -> list[str]:
    values = ",".join(_values(headers, name_lower))
    return [item.strip(" \t").lower() for item in values.split(",") if item.strip(" \t")]


def _protocols(headers: Headers) -> list[str]:
    values = _values(headers, "sec-websocket-protocol")
    return [item.strip(" \t") for value in values for item in value.split(",")]
