"""Which network addresses may be connected to where a name leads there, and a strict resolver.

Knows: the address itself decides, not the name: what was checked is what is connected to.
Must not know: configuration, HTTP.
"""

from __future__ import annotations

import ipaddress
import socket

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(text: str) -> bool:
    """Whether an address literal is globally reachable, also where IPv6 wraps an IPv4 one."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address.is_site_local:
            return False
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is None and address.teredo is not None:
            return False
        if inner is not None:
            address = inner
    return address.is_global and not address.is_multicast and not address.is_reserved


def is_literal(host: str) -> bool:
    """Whether a host is an address rather than a name."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


class PrivateAddress(OSError):
    """Where a name or an address leads is not public, and need not be reached."""

    def __init__(self, text: str) -> None:
        super().__init__(None, text)


class PublicResolver(AbstractResolver):
    """Answers only if every address of a name is public; a mixed answer is refused as a whole."""

    def __init__(self, inner: AbstractResolver | None = None) -> None:
        self._inner = inner if inner is not None else ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of `host`; raises OSError where one of them is private."""
        results = await self._inner.resolve(host, port, family)
        if not all(is_public(result["host"]) for result in results):
            raise PrivateAddress("the name resolves to a private address")
        return results

    async def close(self) -> None:
        """Closes the resolver it asks."""
        await self._inner.close()
