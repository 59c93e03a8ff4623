"""Opens connections to one upstream: resolve, check, connect, and TLS where the URL says so.

Knows: a name is resolved once, and what was checked is what is connected to; nothing resolves it
a second time on the way. A connection that has led to this sidecar itself is closed before a byte
is sent on it: agents must not reach the control listener by way of an upstream. Addresses race
(RFC 8305), so that a family that leads nowhere costs a quarter of a second and not the deadline.
Must not know: HTTP, who asked.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, TypeVar

from aiohappyeyeballs import AddrInfoType, start_connection
from aiohttp.abc import AbstractResolver

from sidecar.addresses import PrivateAddress, PublicResolver, is_literal, is_public
from sidecar.config.upstream_tls import client_context, client_material
from sidecar.errors import Refused
from sidecar.lookups import OwnThreadResolver
from sidecar.proxy.location import read_base

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from sidecar.config.model import Upstream
    from sidecar.listening import OwnListeners

#: How long the answer of a name server serves.
NAMES_S = 10.0
#: Head start of one address before the next is tried too.
NEXT_ADDRESS_S = 0.25

P = TypeVar("P", bound=asyncio.BaseProtocol)


class Dialler:
    """Connections to one upstream; calls that dial at once share one look-up of its name."""

    def __init__(
        self,
        upstream: Upstream,
        resolver: AbstractResolver | None = None,
        context: Callable[[], ssl.SSLContext] | None = None,
        ourselves: OwnListeners | None = None,
    ) -> None:
        """`context` gives that of the next connection; else it is made now, and stays.
        `ourselves` is where no connection may lead."""
        base = read_base(upstream.url)
        self._host = base.host
        self._port = base.port
        self._connect_s = upstream.timeouts.connect_s
        self._context: Callable[[], ssl.SSLContext] | None = None
        if base.scheme == "https":
            made = client_context(client_material(upstream.tls)) if context is None else None
            self._context = context if made is None else lambda: made
        self._ourselves = ourselves
        self._loop = asyncio.get_running_loop()
        self._is_literal = is_literal(base.host)
        self._may_dial = upstream.private or not self._is_literal or is_public(base.host)
        inner = resolver if resolver is not None else OwnThreadResolver()
        self._resolver = inner if upstream.private else PublicResolver(inner)
        self._known: list[AddrInfoType] = []
        self._known_until_s = 0.0
        self._lookup: asyncio.Task[list[AddrInfoType] | OSError] | None = None

    @property
    def is_secured(self) -> bool:
        """Whether connections speak TLS."""
        return self._context is not None

    async def dial(self, make: Callable[[], P]) -> tuple[P, socket.socket]:
        """A new connection, and the socket under it; raises Refused("upstream_unreachable")."""
        if not self._may_dial:
            why = "the upstream's address is private"
            raise Refused("upstream_unreachable", detail=why) from PrivateAddress(why)
        try:
            async with asyncio.timeout(self._connect_s):
                return await self._connected(make)
        except (OSError, TimeoutError) as error:  # what TLS refuses is an OSError too
            raise Refused("upstream_unreachable", detail=repr(error)) from error

    async def _connected(self, make: Callable[[], P]) -> tuple[P, socket.socket]:
        own = await start_connection(
            await self._addresses(), happy_eyeballs_delay=NEXT_ADDRESS_S, loop=self._loop
        )
        try:
            if self._ourselves is not None and self._ourselves.are_reached_by(own):
                raise Refused("upstream_unreachable", detail="the upstream is this sidecar itself")
            _, protocol = await self._loop.create_connection(
                make,
                sock=own,
                ssl=self._context() if self._context is not None else None,
                server_hostname=self._host if self._context is not None else None,
            )
        except BaseException:
            own.close()
            raise
        return protocol, own

    async def _addresses(self) -> list[AddrInfoType]:
        if self._loop.time() < self._known_until_s:
            return self._known
        if self._lookup is None:
            self._lookup = self._loop.create_task(self._look_up(), name="look up an upstream")
        found = await asyncio.shield(self._lookup)
        if isinstance(found, OSError):
            raise found
        return found

    async def _look_up(self) -> list[AddrInfoType] | OSError:
        """The checked addresses, or why there are none (nobody may be left to hear of it)."""
        try:
            found = await self._resolver.resolve(self._host, self._port, socket.AF_UNSPEC)
        except OSError as error:
            return error
        finally:
            self._lookup = None
        if not found:
            return OSError("the name has no address")
        self._known = [_address(one["family"], one["host"], one["port"]) for one in found]
        self._known_until_s = self._loop.time() + NAMES_S
        return self._known

    async def close(self) -> None:
        """Ends what is still being looked up."""
        if self._lookup is not None:
            self._lookup.cancel()
        await self._resolver.close()


def _address(family: int, host: str, port: int) -> AddrInfoType:
    place = (host, port) if family == socket.AF_INET else (host, port, 0, 0)
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place)
