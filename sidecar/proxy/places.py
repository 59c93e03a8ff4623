"""Places among the calls in flight to each upstream.

Knows: how many calls an upstream takes at once; that a call that waits for a person's yes needs
none; that a call may be made to last, by a body that does not come or a WebSocket that is not used,
so that one of several tenants has at most half of them; what MCP clients ask for that were answered
401 and look for a login, so that they show their user why.
Must not know: what the calls are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from sidecar.errors import Refused

if TYPE_CHECKING:
    from sidecar.config.model import Upstream

#: Of revision 2025-03-26, at the root of whoever answered 401 and has no metadata.
_LOGIN: Final = frozenset({"authorize", "register", "token"})
_NO_LOGIN: Final = (
    "No such upstream, and nobody logs in here. A client that looks for a login was answered 401: "
    "by the sidecar, whose own credential (such as Aegis-Token) is missing or wrong, or by the "
    "server, whose credential the sidecar must have (upstreams.NAME.auth)"
)


class Places:
    """Of all upstreams of a sidecar, by their names."""

    __slots__ = ("_by_tenant", "_in_flight", "_upstreams", "are_shared")

    def __init__(self, upstreams: Mapping[str, Upstream], *, are_shared: bool) -> None:
        """`are_shared`: there are several tenants, none of which may have them all."""
        self._upstreams = upstreams
        self._in_flight = dict.fromkeys(upstreams, 0)
        self._by_tenant: dict[tuple[str, str], int] = {}
        self.are_shared = are_shared

    def take(self, name: str) -> Upstream:
        """The upstream, with a place at it. Raises Refused: unknown_upstream, upstream_busy."""
        upstream = self._upstreams.get(name)
        if upstream is None:
            raise Refused("unknown_upstream", _NO_LOGIN if name in _LOGIN else "")
        if self._in_flight[name] >= upstream.limits.calls:
            raise Refused("upstream_busy", retry_after_s=1)
        self._in_flight[name] += 1
        return upstream

    def share(self, name: str, tenant: str) -> str | None:
        """Counts a place that was taken as the tenant's, which is then to be named when it is given
        back; None where nobody shares. Raises Refused("upstream_busy")."""
        if not self.are_shared:
            return None
        taken = self._by_tenant.get((name, tenant), 0)
        if taken >= max(1, self._upstreams[name].limits.calls // 2):
            reason = "Too many calls of this tenant in flight to this upstream"
            raise Refused("upstream_busy", reason, retry_after_s=1)
        self._by_tenant[name, tenant] = taken + 1
        return tenant

    def give_back(self, name: str, tenant: str | None) -> None:
        """The place is free again; `tenant` is whose it was counted as, if it was."""
        self._in_flight[name] -= 1
        if tenant is not None:
            self._by_tenant[name, tenant] -= 1
            if not self._by_tenant[name, tenant]:
                del self._by_tenant[name, tenant]
