"""Who calls: from a request head to a Principal.

Knows: the agents of the configuration and the one that calls without a credential. A credential
that is presented and cannot be checked is refused, never ignored.
Must not know: the request's body, policies, the store.
"""

from __future__ import annotations

from sidecar.config.model import Config
from sidecar.errors import Refused
from sidecar.model import Principal
from sidecar.proxy.head import RequestHead


class Identify:
    """Answers every head with the same frozen Principal, or refuses."""

    def __init__(self, config: Config) -> None:
        self._default: Principal | None = None
        if config.default_agent is not None:
            tenant, name = config.default_agent
            agent = config.tenants[tenant].agents[name]
            self._default = Principal(
                tenant=tenant,
                agent=name,
                team=agent.team,
                environment=agent.environment,
                risk=agent.risk,
                trust=agent.trust,
            )

    def __call__(self, head: RequestHead) -> Principal:
        """The caller of this request; raises Refused("unauthenticated")."""
        if head.first.get("aegis-token") is not None:
            raise Refused("unauthenticated", "No agent has a token in this configuration")
        if self._default is None:
            raise Refused("unauthenticated", "No agent may call without a credential here")
        return self._default
