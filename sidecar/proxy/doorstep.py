"""A connection before it is let in: cheap, because under overload most of them are not.

Knows: the caps, and how to turn somebody away so that he can still read why. One that is admitted
is handed to a DoorConnection at once, with everything a parser and a request need.
Must not know: HTTP requests, heads, bodies.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import orjson

from sidecar.errors import REFUSALS

if TYPE_CHECKING:
    from sidecar.proxy.server import FrontDoor

#: How long a connection that was turned away may take to read why.
FAREWELL_S = 0.5


def farewell(code: str, status_line: str) -> bytes:
    """A whole reply, the connection's last, for one who is refused before he is heard."""
    kind = REFUSALS[code]
    body = orjson.dumps(
        {
            "type": "about:blank",
            "title": kind.title,
            "status": kind.status,
            "code": code,
            "next_step": kind.next_step,
        }
    )
    head = (
        f"HTTP/1.1 {status_line}\r\nContent-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body


_TOO_MANY = farewell("too_many_connections", "503 Service Unavailable")


class Doorstep(asyncio.Protocol):
    """What the listener makes of a new connection."""

    __slots__ = ("_door", "_is_away")

    def __init__(self, door: FrontDoor) -> None:
        self._door = door
        self._is_away = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admits the connection, or tells it why not and closes."""
        # A cast, not a check: uvloop's transports are no subclass of asyncio's.
        stream = cast(asyncio.Transport, transport)
        peer = stream.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) and peer else ""
        if self._door.admit(address):
            connection = self._door.welcome(address)
            stream.set_protocol(connection)
            connection.connection_made(stream)
        else:
            self._turn_away(stream)

    def _turn_away(self, transport: asyncio.Transport) -> None:
        may_stay = self._door.may_say_farewell()
        self._is_away = True
        self._door.count_farewell(1)
        if not may_stay:
            transport.abort()
            return
        transport.write(_TOO_MANY)
        if transport.can_write_eof():
            transport.write_eof()
        # Closing at once would reset a client that is still sending, and lose it the answer.
        self._door.loop.call_later(FAREWELL_S, transport.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        """One turned-away connection fewer."""
        if self._is_away:
            self._door.count_farewell(-1)
