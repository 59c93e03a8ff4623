"""Tokens of agents and keys of people: their form, their hash, and what is too weak to be one.

Knows: that ours name their tenant and their owner, so that whoever finds one knows what to revoke;
that only their SHA-256 is kept; that hashes are compared as bytes, in constant time. A secret is
256 bits of the operating system's randomness, so that a plain hash is enough: nobody guesses it.
Must not know: who has which, where hashes are kept.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.clock import Clock

SECRET_BYTES: Final = 32
#: Longer than any header line that is read; nothing so long is looked at.
TOKEN_CHARS_MAX: Final = 8192


def made_token(clock: Clock, tenant: str, agent: str) -> str:
    """A new token of an agent: `agent_TENANT.AGENT.SECRET`."""
    return f"agent_{tenant}.{agent}.{_secret(clock)}"


def made_key(clock: Clock, tenant: str, key_id: str) -> str:
    """A new key: `tenant_TENANT.ID.SECRET`. Clients that know tenants by a bearer that begins with
    `tenant_` take it as it is (SEED_CONTRACT.md section 2.3)."""
    return f"tenant_{tenant}.{key_id}.{_secret(clock)}"


def owner_of(key: str) -> tuple[str, str] | None:
    """The tenant and the id that a key of ours names; None for any other text."""
    if not key.startswith("tenant_") or key.count(".") != 2:
        return None
    tenant, key_id, _ = key.removeprefix("tenant_").split(".")
    return tenant, key_id


def sha256_of(secret: str) -> str:
    """The hash that is kept and looked up, hex. Any text has one."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def is_same(one_sha256: str, other_sha256: str) -> bool:
    """Whether two hashes are the same, in a time that tells nothing of either."""
    return hmac.compare_digest(one_sha256.encode(), other_sha256.encode())


def bearer_of(authorization: str | None) -> str | None:
    """The credential in `Authorization: Bearer …` (RFC 6750 section 2.1); None for another scheme,
    or none."""
    if authorization is None:
        return None
    scheme, _, value = authorization.partition(" ")
    return value.strip(" ") if scheme.lower() == "bearer" else None


def _secret(clock: Clock) -> str:
    drawn = clock.random_bytes(SECRET_BYTES)
    return base64.urlsafe_b64encode(drawn).rstrip(b"=").decode("ascii")
