"""Who looks and decides: from a key shown to the control listener to a person, or to nobody.

Knows: the keys of sidecar.yaml and of the store, by their hash; tokens that an issuer signed for
people. An agent's own token is known too, and proves an agent, who has no role; a token that an
issuer signed for an agent proves nobody here. Where others write to the store, what is known is
never older than `AGE_MAX_S`, for no guard stands behind a read.
Must not know: HTTP, what the person asks for.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from sidecar.identity.changes import KEY_ACTIVE
from sidecar.identity.jwks import BadToken, KeysWanted
from sidecar.identity.lockout import Lockout
from sidecar.identity.profiles import key_profile
from sidecar.identity.tokens import TOKEN_CHARS_MAX, bearer_of, is_same, owner_of, sha256_of
from sidecar.model import AgentState, Person

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from sidecar.config.model import Config
    from sidecar.identity.authenticator import FailureCounts
    from sidecar.identity.jwt_tokens import JwtTokens
    from sidecar.identity.registry import Registry

_log = logging.getLogger("aegis.identity")

AGE_MAX_S: Final = 2.0
#: Keys that have worked, remembered so that others' failures do not lock them out.
PROVEN_MAX: Final = 20_000


class Doorman:
    """One for the control listener. All is done on the event loop's thread."""

    def __init__(
        self,
        config: Config,
        registry: Registry,
        clock: Clock,
        failures: FailureCounts,
        signed: JwtTokens | None = None,
        *,
        is_alone: bool,
    ) -> None:
        """`is_alone` says that no other process writes to the store; `signed` reads tokens of the
        configuration's issuers."""
        self._signed = signed
        self._registry = registry
        self._failures = failures
        self._is_alone = is_alone
        self.lockout = Lockout(clock)
        self._proven: set[str] = set()
        self._people: dict[str, Person] = {}
        self._by_claim: dict[tuple[str | None, str], Person] = {}
        for tenant, one in config.tenants.items():
            for name, configured in one.people.items():
                person = Person(
                    tenant=tenant,
                    name=name,
                    actor=f"person:{name}",
                    roles=frozenset(configured.roles),
                    groups=frozenset(configured.groups),
                )
                if configured.key is not None:
                    self._people[sha256_of(configured.key.reveal())] = person
                if configured.jwt:
                    self._by_claim[tenant, configured.jwt] = person
                    self._by_claim[None, configured.jwt] = person

    async def person(self, authorization: str | None, address: str) -> Person | None:
        """Whose key or token this is, `Bearer KEY` or the key itself; None for nobody, whatever the
        reason.

        Raises StoreError where it cannot be known whether the key still counts.
        """
        if authorization is None:
            self._failures.failed("absent")
            return None
        key = bearer_of(authorization) or authorization
        sha256 = sha256_of(key)
        # Agents of a host share its address with people, and must not keep them out: what has
        # worked before goes on to work, and so does a signature, which nobody guesses.
        is_locked = self.lockout.is_locked(address) and sha256 not in self._proven
        found = None if is_locked else await self._of_kept(key)
        why = BadToken("unknown")
        if found is None and self._signed is not None and key.count(".") == 2:
            found, why = await self._of_signed(self._signed, key, sha256, is_locked=is_locked)
        if found is not None:
            if len(self._proven) >= PROVEN_MAX:
                self._proven.clear()
            self._proven.add(sha256)
        else:
            self._failed("locked_out" if is_locked else why.reason, address,
                         is_guess=why.is_guess and not is_locked)  # fmt: skip
        return found

    def _failed(self, reason: str, address: str, *, is_guess: bool) -> None:
        self._failures.failed(reason)
        if is_guess and self.lockout.failed(address):
            _log.warning(
                "too many keys failed from one address; it is locked out for a while",
                extra={"source_ip": address},
            )

    async def _of_kept(self, key: str) -> Person | None:
        """The person whose key is kept here, by its hash. Raises StoreError."""
        if not self._is_alone:
            await self._registry.fresh(AGE_MAX_S)
        return self._known(key) if len(key) <= TOKEN_CHARS_MAX else None

    async def _of_signed(
        self, signed: JwtTokens, token: str, sha256: str, *, is_locked: bool
    ) -> tuple[Person | None, BadToken]:
        """The person whom a signed token names, and why there is none. For an address that is
        locked no issuer is asked again."""
        why = BadToken("unknown")
        if len(token) > TOKEN_CHARS_MAX:
            return None, why
        while True:
            try:
                said = signed.read(token, sha256, is_person=True)
            except KeysWanted as wanted:
                if is_locked and not wanted.keys.is_too_old:
                    return None, why
                await wanted.keys.fetch()
            except BadToken as bad:
                return None, bad
            else:
                return self._by_claim.get((said.tenant, said.name)), why

    def _known(self, key: str) -> Person | None:
        sha256 = sha256_of(key)
        for known, person in self._people.items():
            if is_same(known, sha256):
                return person
        return self._of_key(key, sha256) or self._of_agent(sha256)

    def _of_key(self, key: str, sha256: str) -> Person | None:
        tenant, key_id = owner_of(key) or ("", "")
        view = self._registry.view(tenant)
        found = None if view is None else view.keys.get(key_id)
        if not is_same(found.key_sha256 if found is not None else "", sha256) or found is None:
            return None
        if found.state != KEY_ACTIVE or self._registry.has_ended(found):
            return None
        profile = key_profile(found)
        if profile is None:
            return None
        return Person(
            tenant=found.tenant_id,
            name=profile.name,
            actor=f"key:{found.key_id}",
            roles=profile.roles,
            groups=profile.groups,
        )

    def _of_agent(self, sha256: str) -> Person | None:
        agent = self._registry.by_token(sha256)
        if agent is None or agent.state is not AgentState.ACTIVE:
            return None
        name = agent.agent
        return Person(tenant=agent.tenant, name=name, actor=f"agent:{name}", agent=name)
