"""Sockets that listen: one for each address of a host, all of them or none.

Knows: addresses and socket options. Must not know: who serves on them, or how.
"""

from __future__ import annotations

import asyncio
import socket


async def listening_sockets(host: str, port: int, backlog: int) -> list[socket.socket]:
    """A socket for each address of `host`; raises OSError, and then none is left open."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listening: list[socket.socket] = []
    try:
        for family, address in dict.fromkeys((one[0], one[4]) for one in found):
            listener = socket.socket(family, socket.SOCK_STREAM)
            listening.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen(backlog)
            listener.setblocking(False)
    except BaseException:
        for listener in listening:
            listener.close()
        raise
    return listening
