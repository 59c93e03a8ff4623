"""Which agent asks: by `Aegis-Token`, by `Authorization: Bearer`, or by the certificate shown.

Knows: that on this API `Authorization` is the sidecar's to read, for nothing is forwarded; that the
tenant is the credential's own: a header that names one is what a client believes, and decides
nothing; that on the control listener nobody calls without a credential.
Must not know: bodies, policies, how a credential is checked.
"""

from __future__ import annotations

from sidecar.authorize.asked import AskedHttp
from sidecar.errors import Refused
from sidecar.identity.authenticator import Authenticator
from sidecar.identity.jwks import KeysWanted
from sidecar.identity.tokens import bearer_of
from sidecar.model import Principal


class AgentCallers:
    """`IdentifiesAgents` over the authenticator."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def __call__(self, asked: AskedHttp) -> Principal:
        """See `IdentifiesAgents`."""
        while True:  # of two tokens each may want keys; none is asked for twice in a row
            try:
                return self._proven(asked)
            except KeysWanted as wanted:
                await wanted.keys.fetch()

    def knows(self, asked: AskedHttp) -> bool:
        """Whether the credential is an agent's own token, or says that it is one; it is not counted
        if it is not."""
        if "aegis-token" in asked.headers:
            return True
        bearer = bearer_of(asked.headers.get("authorization"))
        return bearer is not None and self._authenticator.is_for_agents(bearer)

    def _proven(self, asked: AskedHttp) -> Principal:
        authenticator, headers = self._authenticator, asked.headers
        secrets: tuple[str, ...] = ()
        token = headers.get("aegis-token")
        if token is not None:
            secrets = (token,)
        if "authorization" in headers:
            bearer = bearer_of(headers["authorization"])
            if bearer is None:
                raise Refused("unauthenticated", "Authorization must be a bearer here")
            if bearer != token:
                secrets = (*secrets, bearer)
        certificate = asked.certificate if authenticator.reads_certificates else None
        if secrets or certificate is not None:
            return authenticator.proven(secrets, certificate, asked.source_ip)
        if asked.is_control:
            raise Refused("unauthenticated")
        return authenticator.without()
