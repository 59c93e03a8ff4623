"""How a sink is reached: its name, the addresses it may have, whom to trust there.

Knows: that a name is looked up on a thread of its own, so that a name server which does not answer
holds up nobody else; that an address is private only where the configuration says so.
Must not know: what is sent.
"""

from __future__ import annotations

import asyncio
import socket
import ssl

from aiohttp.abc import AbstractResolver, ResolveResult

from sidecar.addresses import PublicResolver, is_literal, is_public
from sidecar.config.model import UpstreamTls
from sidecar.config.upstream_tls import ClientMaterial, client_context, client_material
from sidecar.soc.sinks.seam import NotDelivered


class Way:
    """The way to one sink."""

    def __init__(
        self, host: str, tls: UpstreamTls, names: AbstractResolver, *, is_private: bool
    ) -> None:
        self._host = host
        self._tls = tls
        self._may_go = is_private or not is_literal(host) or is_public(host)
        #: Answers only with addresses that may be connected to.
        self.resolver: AbstractResolver = names if is_private else PublicResolver(names)
        self._material: ClientMaterial | None = None
        self._context: ssl.SSLContext | None = None

    def require_allowed(self) -> None:
        """Raises NotDelivered for an address that the configuration does not allow."""
        if not self._may_go:
            raise NotDelivered("its address is private, and `private: true` is not set")

    async def addresses(self, port: int) -> list[ResolveResult]:
        """Where to connect; raises NotDelivered, OSError."""
        self.require_allowed()
        return await self.resolver.resolve(self._host, port, socket.AF_UNSPEC)

    async def context(self) -> ssl.SSLContext:
        """How the next connection is secured; raises OSError, ValueError for files that are of no
        use by now."""
        return await asyncio.to_thread(self._fresh_context)

    def _fresh_context(self) -> ssl.SSLContext:
        material = client_material(self._tls)
        if self._context is None or material != self._material:
            self._context, self._material = client_context(material), material
        return self._context
