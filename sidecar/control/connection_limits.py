"""How many connections a server of aiohttp holds, and how long one may stand without a request.

Knows: that files are the whole process's: whoever may connect without a key must not open so many
that the store, the upstreams and the agents' listener find none.
Must not know: what is asked over a connection.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final

from aiohttp import web

from sidecar.open_files import control_connections_max

PER_ADDRESS_MAX: Final = 128
#: From the beginning of a connection to the end of its first head.
HEAD_WAIT_S: Final = 10.0


class ConnectionLimits:
    """Those of one server, from `hold` on."""

    def __init__(self) -> None:
        self._most = control_connections_max()
        self._by_address: Counter[str] = Counter()
        self._address_of: dict[Any, str] = {}
        self._timers: dict[Any, asyncio.TimerHandle] = {}

    def hold(self, server: web.Server) -> None:
        """Its connections are counted, and one too many is dropped. `server` tells of them by two
        methods, which its connections call."""
        made, lost = server.connection_made, server.connection_lost

        def connection_made(handler: Any, transport: asyncio.Transport) -> None:
            made(handler, transport)
            self._made(handler, transport)

        def connection_lost(handler: Any, error: BaseException | None = None) -> None:
            lost(handler, error)
            self._lost(handler)

        server.connection_made = connection_made  # type: ignore[method-assign]
        server.connection_lost = connection_lost  # type: ignore[assignment,method-assign]

    def _made(self, handler: Any, transport: asyncio.Transport) -> None:
        address = str((transport.get_extra_info("peername") or ("",))[0])
        loop = asyncio.get_running_loop()
        self._address_of[handler] = address
        self._by_address[address] += 1
        if self._by_address[address] > PER_ADDRESS_MAX or len(self._address_of) > self._most:
            # Not at once: the connection's own task, which aiohttp makes after this, would find it
            # lost before its first step, and tell the log of a fault.
            loop.call_soon(transport.abort)
            return
        self._timers[handler] = loop.call_later(HEAD_WAIT_S, self._is_late, handler, transport)

    def _is_late(self, handler: Any, transport: asyncio.Transport) -> None:
        del self._timers[handler]
        if not handler._request_count:
            transport.abort()

    def _lost(self, handler: Any) -> None:
        timer = self._timers.pop(handler, None)
        if timer is not None:
            timer.cancel()
        address = self._address_of.pop(handler, None)
        if address is None:
            return
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
