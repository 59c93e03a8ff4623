"""Who calls: from a request head to a Principal.

Knows: the one that calls without a credential. A credential that is presented and cannot be checked
is refused, never ignored.
Must not know: the request's body, policies, the store.
"""

from __future__ import annotations

from sidecar.errors import Refused
from sidecar.identity.agent_states import FINAL
from sidecar.identity.registry import Registry
from sidecar.model import Principal
from sidecar.proxy.head import RequestHead


class Identify:
    """Answers a head with its caller, however that stands short of its end; or refuses."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def __call__(self, head: RequestHead) -> Principal:
        """The caller of this request; raises Refused("unauthenticated")."""
        if head.first.get("aegis-token") is not None:
            raise Refused("unauthenticated", "No agent has a token in this configuration")
        default = self._registry.default
        if default is None or default.state in FINAL:
            raise Refused("unauthenticated", "No agent may call without a credential here")
        return default
