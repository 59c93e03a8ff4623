"""What of the configuration is on record for a tenant: who may call, look and decide, how they are
known, and what becomes of a call that no rule decides.

Knows: that a secret is told by a keyed digest, by which another one is seen to be another and
neither is known; that the digest is bound to whose secret it is, so that two who share one do not
show it.
Must not say: a secret.
"""

from __future__ import annotations

import hmac
from typing import Any, Final

from sidecar.config.identity_model import Agent, ConfiguredPerson, Issuer
from sidecar.config.model import Config
from sidecar.config.settable import Secret

#: 128 bits: nobody finds another secret of the same digest.
DIGEST_CHARACTERS: Final = 32


def told_of(config: Config, tenant: str, salt: bytes) -> dict[str, Any]:
    """It as plain JSON values; `salt` keys the digests. Of a tenant that is not configured there is
    nothing to tell."""
    if tenant not in config.tenants:
        return {}
    own = config.tenants[tenant]
    chosen = config.default_agent
    return {
        "default": config.default,
        "identity": {
            "default_agent": chosen[1] if chosen is not None and chosen[0] == tenant else "",
            "mtls": config.mtls,
            "issuers": [_issuer(one) for one in config.issuers if one.tenant in ("", tenant)],
        },
        "agents": {name: _agent(name, one, salt) for name, one in own.agents.items()},
        "people": {name: _person(name, one, salt) for name, one in own.people.items()},
    }


def _agent(name: str, agent: Agent, salt: bytes) -> dict[str, Any]:
    return {
        "team": agent.team,
        "environment": agent.environment,
        "risk": agent.risk.label,
        "trust": agent.trust.label,
        "token": _digest(salt, "agent", name, agent.token),
        "mtls": agent.mtls,
        "jwt": agent.jwt,
    }


def _person(name: str, person: ConfiguredPerson, salt: bytes) -> dict[str, Any]:
    return {
        "roles": sorted(role.value for role in person.roles),
        "groups": sorted(person.groups),
        "key": _digest(salt, "person", name, person.key),
        "jwt": person.jwt,
    }


def _issuer(issuer: Issuer) -> dict[str, Any]:
    said = issuer.model_dump(exclude={"leeway_s", *(() if issuer.tenant else ("tenant",))})
    return said | {"leeway_ms": round(issuer.leeway_s * 1000)}


def _digest(salt: bytes, kind: str, name: str, secret: Secret | None) -> str:
    """ "" without a secret."""
    if secret is None:
        return ""
    said = "\0".join((kind, name, secret.reveal())).encode()
    return hmac.digest(salt, said, "sha256").hex()[:DIGEST_CHARACTERS]
