"""How much of request bodies is held in memory at once: as they arrive, until their calls end.

Knows: that each body has a bound of its own, and many at once have not: callers who send as much as
they may, or who send it slowly, and a server that takes nothing, would take all the memory there
is. So there is one bound for all of them, of which one upstream, and one of several tenants, has at
most half. That a body of no more than `FREE_BYTES` is not counted: it costs nothing to take, goes
ahead however much is held of others, and all of them together are bounded by the connections.
Must not know: how a body is read, what is in it, what a call is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.errors import Refused

if TYPE_CHECKING:
    from sidecar.telemetry.counters import Counters

#: A body that is not larger is not counted. A connection's own buffers hold more than that.
FREE_BYTES: Final = 64 * 1024


class HeldBodies:
    """One for a sidecar; `bytes_max` for all bodies together. The sum stands in `counters`."""

    def __init__(self, bytes_max: int, counters: Counters, *, shares_tenants: bool) -> None:
        """`shares_tenants`: there are several, none of which may have it all."""
        self._bytes_max = bytes_max
        self._counters = counters
        self._shares_tenants = shares_tenants
        self._by_upstream: dict[str, int] = {}
        self._by_tenant: dict[str, int] = {}

    def require_room(self, upstream: str, tenant: str, size: int) -> None:
        """Raises Refused("bodies_full") where so many bytes more would be too many."""
        half = self._bytes_max // 2
        if self._counters.request_bytes_held + size > self._bytes_max:
            reason = ""
        elif self._by_upstream.get(upstream, 0) + size > half:
            reason = "Too much is held of requests to this upstream"
        elif self._shares_tenants and self._by_tenant.get(tenant, 0) + size > half:
            reason = "Too much is held of requests of this tenant"
        else:
            return
        raise Refused("bodies_full", reason, retry_after_s=1)

    def change(self, upstream: str, tenant: str, size: int) -> None:
        """So many bytes more, or less, are held for a call of this tenant to this upstream."""
        self._counters.request_bytes_held += size
        _change(self._by_upstream, upstream, size)
        _change(self._by_tenant, tenant, size)


class HeldBody:
    """What is held of one body, by whose call to which upstream. Nothing is, to begin with."""

    __slots__ = ("_bodies", "_size", "_upstream", "tenant")

    def __init__(self, bodies: HeldBodies, upstream: str, tenant: str = "") -> None:
        """The tenant may be told later, but before the first byte."""
        self._bodies = bodies
        self._upstream = upstream
        self._size = 0
        self.tenant = tenant

    def require_room(self, announced_bytes: int) -> None:
        """Raises Refused("bodies_full") for a body that would not fit now; nothing is kept free
        for it."""
        if announced_bytes > FREE_BYTES:
            self._bodies.require_room(self._upstream, self.tenant, announced_bytes - self._size)

    def becomes(self, size: int) -> None:
        """So much of it is held by now, or is about to be. Raises Refused("bodies_full"): then no
        more of it may be kept."""
        more = (size if size > FREE_BYTES else 0) - self._size
        if more > 0:
            self._bodies.require_room(self._upstream, self.tenant, more)
        if more:
            self._bodies.change(self._upstream, self.tenant, more)
            self._size += more

    def let_go(self) -> None:
        """Nothing is held any more."""
        self.becomes(0)


def _change(held: dict[str, int], name: str, size: int) -> None:
    left = held.get(name, 0) + size
    if left:
        held[name] = left
    else:
        held.pop(name, None)
