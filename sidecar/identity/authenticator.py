"""From credentials that came with a request to the agent they prove, or to one refusal for all.

Knows: tokens by their hash, certificates by their subject, signed tokens by their claims. What is
presented must be found; two that disagree prove nothing. Who is unknown, revoked, deleted or of
another tenant is told the same in the same form; why, is counted for operators.
Must not know: HTTP's framing, what the caller asks for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from sidecar.errors import Refused
from sidecar.identity.agent_states import FINAL
from sidecar.identity.certificates import subjects_of
from sidecar.identity.jwks import BadToken, KeysWanted
from sidecar.identity.lockout import LOCKED_S, Lockout
from sidecar.identity.tokens import TOKEN_CHARS_MAX, sha256_of

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from sidecar.config.model import Config
    from sidecar.identity.jwt_tokens import JwtTokens, Verified
    from sidecar.identity.registry import Registry
    from sidecar.model import Principal

_log = logging.getLogger("aegis.identity")

#: Why a caller may not be known; `jwt_…` are those of signed tokens.
REASONS: Final = (
    "absent", "unknown", "certificate", "disagree", "locked_out", "jwt_malformed", "jwt_algorithm",
    "jwt_key", "jwt_claims", "jwt_expired", "jwt_not_yet_valid", "jwt_audience", "jwt_signature",
    "jwt_issuer",
)  # fmt: skip
#: Credentials that have worked, remembered so that others' failures do not lock them out.
PROVEN_MAX: Final = 20_000
#: Callers that signed tokens proved, remembered with what they claim.
MADE_MAX: Final = 4096

Certificate = Mapping[str, Any]


class FailureCounts:
    """Counts by reason, all there from the start."""

    def __init__(self) -> None:
        self.by_reason: dict[str, int] = dict.fromkeys(REASONS, 0)

    def failed(self, reason: str) -> None:
        """One more."""
        self.by_reason[reason] += 1


class Authenticator:
    """One for a sidecar. All is done on the event loop's thread."""

    def __init__(
        self,
        config: Config,
        registry: Registry,
        clock: Clock,
        failures: FailureCounts,
        signed: JwtTokens | None,
    ) -> None:
        """`signed` reads tokens of the configuration's issuers; None if there are none."""
        self._registry = registry
        self._failures = failures
        self._signed = signed
        self.lockout = Lockout(clock)
        self._proven: set[str] = set()
        self._made: dict[str, tuple[Principal, Verified, Principal]] = {}
        self._mtls = config.mtls
        self._by_subject: dict[str, tuple[str, str]] = {}
        self._by_claim: dict[tuple[str | None, str], tuple[str, str]] = {}
        for tenant, one in config.tenants.items():
            for name, agent in one.agents.items():
                if agent.mtls:
                    self._by_subject[agent.mtls] = (tenant, name)
                if agent.jwt:
                    self._by_claim[tenant, agent.jwt] = (tenant, name)
                    self._by_claim[None, agent.jwt] = (tenant, name)

    @property
    def reads_certificates(self) -> bool:
        """Whether a client's certificate names an agent."""
        return self._mtls != "off"

    @property
    def takes_bearers(self) -> bool:
        """Whether a bearer could be an agent's: some have tokens, or an issuer signs theirs."""
        return self._signed is not None or self._registry.has_tokens

    def is_for_agents(self, secret: str) -> bool:
        """Whether a bearer says that it is an agent's, by a token or by its audience."""
        if len(secret) > TOKEN_CHARS_MAX:
            return False
        if self._registry.by_token(sha256_of(secret)) is not None:
            return True
        return self._signed is not None and self._signed.is_for_agents(secret)

    def without(self) -> Principal:
        """Who calls without a credential. Raises Refused."""
        default = self._registry.default
        if default is None or default.state in FINAL:
            self._failures.failed("absent")
            raise Refused("unauthenticated", "Nobody may call without a credential here")
        return default

    def proven(
        self,
        secrets: tuple[str, ...],
        certificate: Certificate | None,
        address: str,
    ) -> Principal:
        """The agent that all of these prove, however it stands short of its end.

        Raises Refused (unauthenticated, too_many_failures), and KeysWanted where an issuer's keys
        have to be fetched first.
        """
        found: Principal | None = None
        if self.lockout.is_locked(address) and not self._are_no_guesses(secrets, certificate):
            self._failures.failed("locked_out")
            raise Refused("too_many_failures", retry_after_s=LOCKED_S)
        if certificate is not None:
            found = self._of_certificate(certificate, address)
        for secret in secrets:
            one = self._of_secret(secret, address)
            if found is None or (one.tenant, one.agent) == (found.tenant, found.agent):
                found = one if found is None or one.claims else found
            else:
                raise self._refused("disagree", address)
        if found is None:
            return self.without()
        return found

    def tokens_among(self, secrets: tuple[str, ...]) -> tuple[str, ...]:
        """The hashes of those that are agents' tokens; of one that is none any more, only where
        no issuer could have signed it."""
        hashes = tuple(map(sha256_of, secrets))
        if self._signed is None:
            return hashes
        return tuple(one for one in hashes if self._registry.by_token(one) is not None)

    # -- one by one --------------------------------------------------------------------------

    def _of_secret(self, secret: str, address: str) -> Principal:
        if len(secret) > TOKEN_CHARS_MAX:
            raise self._refused("unknown", address)
        sha256 = sha256_of(secret)
        found = self._registry.by_token(sha256)
        if found is None and self._signed is not None and secret.count(".") == 2:
            found = self._of_signed(secret, sha256, address)
        if found is None or found.state in FINAL:
            raise self._refused("unknown", address)
        if sha256 not in self._proven:
            if len(self._proven) >= PROVEN_MAX:
                self._proven.clear()
            self._proven.add(sha256)
        return found

    def _of_signed(self, token: str, sha256: str, address: str) -> Principal | None:
        if self._signed is None:
            return None
        try:
            said = self._signed.read(token, sha256)
        except BadToken as bad:
            raise self._refused(bad.reason, address, is_guess=bad.is_guess) from None
        named = self._by_claim.get((said.tenant, said.name))
        standing = None if named is None else self._registry.agent(*named)
        if standing is None:
            return None
        made = self._made.get(sha256)
        if made is not None and made[0] is standing and made[1] is said:
            return made[2]
        principal = replace(standing, user=None, claims=said.claims, run=said.run)
        if len(self._made) >= MADE_MAX:
            del self._made[next(iter(self._made))]
        self._made[sha256] = (standing, said, principal)
        return principal

    def _of_certificate(self, certificate: Certificate, address: str) -> Principal:
        for subject in subjects_of(certificate, self._mtls):
            named = self._by_subject.get(subject)
            found = None if named is None else self._registry.agent(*named)
            if found is not None and found.state not in FINAL:
                return found
        raise self._refused("certificate", address)

    def _are_no_guesses(self, secrets: tuple[str, ...], certificate: Certificate | None) -> bool:
        """All agents of a host share its address, and one that keeps failing must not silence the
        others: what has worked before goes on to work, and so does what nobody guesses, a
        certificate or a signature. Signed tokens live for minutes: the next one has never worked
        before. Raises KeysWanted where an issuer's keys were never had."""
        if not secrets:
            return certificate is not None
        return all(len(one) <= TOKEN_CHARS_MAX and self._is_no_guess(one) for one in secrets)

    def _is_no_guess(self, secret: str) -> bool:
        sha256 = sha256_of(secret)
        if sha256 in self._proven:
            return True
        if self._signed is None or secret.count(".") != 2:
            return False
        try:
            self._signed.read(secret, sha256)
        except BadToken:
            return False
        except KeysWanted as wanted:
            if wanted.keys.is_too_old:
                raise
            return False
        return True

    def _refused(self, reason: str, address: str, *, is_guess: bool = True) -> Refused:
        self._failures.failed(reason)
        if is_guess and self.lockout.failed(address):
            _log.warning(
                "too many credentials failed from one address; it is locked out for a while",
                extra={"source_ip": address},
            )
        return Refused("unauthenticated", detail=reason)
