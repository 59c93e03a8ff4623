"""Sockets that listen: one for each address of a host, all of them or none; and who reaches them.

Knows: addresses and socket options. A connection that this process opens may lead to itself by a
name or an address that no text tells of, so the connection itself is asked.
Must not know: who serves on them, or how.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any, Final

#: The family is switched off, or the kernel has none of it.
_NO_SUCH_ADDRESS: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class OwnListeners:
    """Where this process listens."""

    def __init__(self) -> None:
        self._places: set[tuple[_Address, int]] = set()

    def add(self, listening: Iterable[socket.socket]) -> None:
        """Sockets that listen from now on, over TCP."""
        self._places.update(_place(one.getsockname()) for one in listening)

    def are_reached_by(self, opened: socket.socket) -> bool:
        """Whether a connection, to whatever it was opened, has led to one of them. Raises OSError
        where it is over already."""
        peer, port = _place(opened.getpeername())
        own, _ = _place(opened.getsockname())
        is_this_host = peer == own or peer.is_loopback
        return any(
            port == listening_port
            and (
                peer == address
                or (is_this_host and address.is_unspecified)
                or (peer.is_loopback and address.is_loopback)
            )
            for address, listening_port in self._places
        )


def _place(name: tuple[str, int]) -> tuple[_Address, int]:
    """Address and port of a socket's name; an IPv4 address that IPv6 wraps is itself."""
    address = ipaddress.ip_address(name[0].partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address, name[1]


async def listening_sockets(host: str, port: int, backlog: int) -> list[socket.socket]:
    """A socket for each address of `host`; raises OSError, and then none is left open.

    `localhost` is also ::1 where this machine speaks no IPv6, as in many containers: nobody could
    come there, and the other address will do.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    places = dict.fromkeys((one[0], one[4]) for one in found)
    listening: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, place in places:
            try:
                listening.append(_listening(family, place, backlog))
            except OSError as error:
                if place[0] != "::1" or error.errno not in _NO_SUCH_ADDRESS:
                    raise
                missing = error
        if missing is not None and not listening:
            raise missing
    except BaseException:
        for listener in listening:
            listener.close()
        raise
    return listening


def _listening(family: int, place: Any, backlog: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(place)
        listener.listen(backlog)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
