"""Signed tokens of agents and people (RFC 7519): whether they hold, and what they claim.

Knows: that only a few asymmetric algorithms are taken and the issuer's own keys (RFC 8725 sections
3.1 and 3.2), that issuer, audience and expiry must stand in a token, and how far clocks may differ.
A token is an agent's or a person's by its audience, and never both.
A token that held is remembered by its hash until it expires or its issuer's keys change.
Must not know: which agents and people there are, HTTP.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import jwt

from sidecar.identity.jwks import KIND_OF, BadToken, Fetch, KeySet, KeysWanted, fetched

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from sidecar.config.model import Issuer

VERIFIED_MAX: Final = 4096
CLAIMS_DEPTH_MAX: Final = 16
RUN_CHARS_MAX: Final = 128
_SAFE_INTEGER: Final = 2**53
_REASONS: Final = (
    (jwt.ExpiredSignatureError, "jwt_expired"),
    (jwt.ImmatureSignatureError, "jwt_not_yet_valid"),
    (jwt.InvalidAudienceError, "jwt_audience"),
    (jwt.InvalidSignatureError, "jwt_signature"),
    (jwt.InvalidIssuerError, "jwt_issuer"),
)


@dataclass(frozen=True, slots=True)
class Verified:
    """What a token that holds says: whom it names. `tenant` is None where its issuer names none."""

    name: str
    tenant: str | None
    run: str
    claims: Mapping[str, Any]
    until_s: float
    generation: int
    keys: KeySet


class JwtTokens:
    """For the issuers of a configuration. All is done on the event loop's thread."""

    def __init__(self, issuers: Sequence[Issuer], clock: Clock, fetch: Fetch = fetched) -> None:
        self._issuers = {one.issuer: (one, KeySet(one.jwks, clock, fetch)) for one in issuers}
        self._clock = clock
        self.key_sets = {issuer: keys for issuer, (_, keys) in self._issuers.items()}
        self._verified: dict[tuple[str, bool], Verified] = {}

    def read(self, token: str, sha256: str, *, is_person: bool = False) -> Verified:
        """What an agent's token says, or a person's; `sha256` is its hash. Raises BadToken,
        KeysWanted."""
        place = (sha256, is_person)
        known = self._verified.get(place)
        if known is not None:
            is_current = known.generation == known.keys.generation and not known.keys.is_too_old
            if is_current and self._clock.now_us() < known.until_s * 1e6:
                known.keys.refresh()
                return known
            del self._verified[place]
        verified = self._verify(token, is_person)
        if len(self._verified) >= VERIFIED_MAX:
            del self._verified[next(iter(self._verified))]
        self._verified[place] = verified
        return verified

    def is_for_agents(self, token: str) -> bool:
        """Whether a token says that it is for agents: which door it is led to, and nothing more,
        for none of it is verified here."""
        try:
            said = jwt.decode(token, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, RecursionError):
            return False
        found = self._issuers.get(said["iss"]) if isinstance(said.get("iss"), str) else None
        if found is None:
            return False
        audiences = _audiences(said)
        return found[0].audience in audiences and found[0].people_audience not in audiences

    async def close(self) -> None:
        """Ends what is being fetched."""
        for _, keys in self._issuers.values():
            await keys.close()

    def _verify(self, token: str, is_person: bool) -> Verified:
        try:
            header = jwt.get_unverified_header(token)
            said = jwt.decode(token, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise BadToken("jwt_malformed") from None
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or not isinstance(kid, str | None) or "crit" in header:
            raise BadToken("jwt_malformed")
        if algorithm not in KIND_OF:
            raise BadToken("jwt_algorithm")
        found = self._issuers.get(said["iss"]) if isinstance(said.get("iss"), str) else None
        if found is None:
            raise BadToken("jwt_issuer")
        issuer, keys = found
        key = keys.find(kid, algorithm)
        if key is None:
            if keys.may_fetch:
                raise KeysWanted(keys)
            raise BadToken("jwt_key", is_guess=not keys.is_failing)
        ours, others = issuer.audience, issuer.people_audience
        if is_person:
            ours, others = others, ours
        if not ours or others in _audiences(said):
            raise BadToken("jwt_audience")
        claims = self._claims(token, key, algorithm, issuer, ours)
        return _said(issuer, keys, claims, issuer.person_claim if is_person else issuer.agent_claim)

    def _claims(
        self, token: str, key: Any, algorithm: str, issuer: Issuer, audience: str
    ) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=issuer.issuer,
                audience=audience,
                leeway=issuer.leeway_s,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.PyJWTError as error:
            for kind, reason in _REASONS:
                if isinstance(error, kind):
                    raise BadToken(reason) from None
            raise BadToken("jwt_claims") from None
        except (ValueError, TypeError, OverflowError):
            raise BadToken("jwt_claims") from None
        if not _is_plain(claims, CLAIMS_DEPTH_MAX):
            raise BadToken("jwt_claims")
        return claims


def _audiences(said: Mapping[str, Any]) -> list[Any]:
    """For whom a token says it is, before anything of it is believed: to refuse by alone."""
    audience = said.get("aud")
    return audience if isinstance(audience, list) else [audience]


def _said(issuer: Issuer, keys: KeySet, claims: dict[str, Any], claim: str) -> Verified:
    name = _text(claims, claim)
    tenant = _text(claims, issuer.tenant_claim) if issuer.tenant_claim else None
    run = _text(claims, issuer.run_claim) if issuer.run_claim in claims else ""
    if len(run) > RUN_CHARS_MAX or not run.isprintable():
        raise BadToken("jwt_claims")
    until_s = float(claims["exp"]) + issuer.leeway_s
    return Verified(name, tenant, run, MappingProxyType(claims), until_s, keys.generation, keys)


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise BadToken("jwt_claims")
    return value


def _is_plain(value: Any, depth: int) -> bool:
    """Whether rules can read it: what JSON that every reader reads alike would hold."""
    if isinstance(value, str):
        return "\0" not in value and not any(0xD800 <= ord(one) <= 0xDFFF for one in value)
    if isinstance(value, bool) or value is None:
        return True
    if isinstance(value, int):
        return -_SAFE_INTEGER <= value <= _SAFE_INTEGER
    if isinstance(value, float):
        return math.isfinite(value)
    if depth == 0:
        return False
    if isinstance(value, list):
        return all(_is_plain(one, depth - 1) for one in value)
    if isinstance(value, dict):
        return all(_is_plain(k, 1) and _is_plain(v, depth - 1) for k, v in value.items())
    return False
