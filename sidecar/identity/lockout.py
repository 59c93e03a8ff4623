"""Addresses from which too many credentials failed, for a while.

Knows: how many are too many. Of IPv6 the network of an address counts: a /64 is one customer's. The
table is bounded; beyond, what failed longest ago is forgotten.
Must not know: credentials, HTTP.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.clock import Clock

#: So many failures within the window lock an address, for so long.
FAILURES_MAX: Final = 20
WINDOW_S: Final = 60
LOCKED_S: Final = 60
ADDRESSES_MAX: Final = 4096
_NS: Final = 1_000_000_000


class _Failures:
    """Of one address."""

    __slots__ = ("count", "locked_until_ns", "since_ns")

    def __init__(self, now_ns: int) -> None:
        self.count = 0
        self.since_ns = now_ns
        self.locked_until_ns = 0


class Lockout:
    """One for each listener. All is done on the event loop's thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: dict[str, _Failures] = {}
        #: How often an address was locked.
        self.locked_total = 0

    def is_locked(self, address: str) -> bool:
        """Whether credentials from this address are not looked at now."""
        if not self._failures:  # nearly always
            return False
        found = self._failures.get(_network(address))
        return found is not None and self._clock.monotonic_ns() < found.locked_until_ns

    def failed(self, address: str) -> bool:
        """One more has failed; whether that locks the address."""
        network, now_ns = _network(address), self._clock.monotonic_ns()
        found = self._failures.pop(network, None)
        if found is None or now_ns - found.since_ns > WINDOW_S * _NS:
            found = _Failures(now_ns)
        self._failures[network] = found  # behind all others: it failed last
        if len(self._failures) > ADDRESSES_MAX:
            del self._failures[next(iter(self._failures))]
        found.count += 1
        if found.count < FAILURES_MAX or now_ns < found.locked_until_ns:
            return False
        found.count, found.since_ns = 0, now_ns
        found.locked_until_ns = now_ns + LOCKED_S * _NS
        self.locked_total += 1
        return True


def _network(address: str) -> str:
    if ":" not in address:
        return address
    try:
        of_v6 = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if of_v6.ipv4_mapped is not None:
        return str(of_v6.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(of_v6) >> 64 << 64, 64)))
