"""Who calls: from a request's head and connection to a Principal.

Knows: where credentials stand: `Aegis-Token`, the certificate the client has shown, and
`Authorization: Bearer` where that is the sidecar's to read, for it sends the upstream a credential
of its own; elsewhere `Authorization` belongs to the upstream. Nothing is awaited unless the keys of
an issuer have to be fetched.
Must not know: the request's body, policies, the store, how a credential is checked.
"""

from __future__ import annotations

from sidecar.config.model import Upstream
from sidecar.identity.authenticator import Authenticator
from sidecar.identity.jwks import KeysWanted
from sidecar.identity.tokens import bearer_of
from sidecar.model import Principal
from sidecar.proxy.agent_side import AgentSide


class Identify:
    """Answers a request with its caller, however that stands short of its end; or refuses."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    def known(self, exchange: AgentSide, upstream: Upstream) -> Principal | None:
        """The caller of this request; None where keys have to be fetched first (`asked`).

        Raises Refused (unauthenticated, too_many_failures).
        """
        try:
            return self._proven(exchange, upstream)
        except KeysWanted:
            return None

    async def asked(self, exchange: AgentSide, upstream: Upstream) -> Principal:
        """The caller, once the keys are there, or cannot be had. Raises Refused."""
        while True:  # of two tokens each may want keys; none is asked for twice in a row
            try:
                return self._proven(exchange, upstream)
            except KeysWanted as wanted:
                await wanted.keys.fetch()

    def tokens(self, exchange: AgentSide, upstream: Upstream) -> tuple[str, ...]:
        """The hashes of the tokens that the caller came with."""
        return self._authenticator.tokens_among(self._secrets(exchange, upstream))

    def _proven(self, exchange: AgentSide, upstream: Upstream) -> Principal:
        authenticator = self._authenticator
        secrets = self._secrets(exchange, upstream)
        certificate = exchange.certificate if authenticator.reads_certificates else None
        if not secrets and certificate is None:
            return authenticator.without()
        return authenticator.proven(secrets, certificate, exchange.head.source_ip)

    def _secrets(self, exchange: AgentSide, upstream: Upstream) -> tuple[str, ...]:
        authenticator = self._authenticator
        first = exchange.head.first
        secrets: tuple[str, ...] = ()
        token = first.get("aegis-token")
        if token is not None:
            secrets = (token,)
        if upstream.auth is not None and "authorization" in first and authenticator.takes_bearers:
            bearer = bearer_of(first["authorization"])
            if bearer is not None and bearer != token:
                secrets = (*secrets, bearer)
        return secrets
