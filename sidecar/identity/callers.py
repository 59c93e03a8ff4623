"""All that knows callers of one sidecar, made together.

Knows: what of it a configuration needs: what reads signed tokens is loaded only where there is an
issuer. Its numbers are read by whoever publishes them.
Must not know: HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from sidecar.identity.authenticator import Authenticator, FailureCounts
from sidecar.identity.changes import Changes
from sidecar.identity.containing import Containing, ReadsContainments
from sidecar.identity.containment_remarks import KnownTools, ReadsMarks
from sidecar.identity.doorman import Doorman
from sidecar.identity.registry import ReadsRegistry, Registry

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from sidecar.clock import Clock
    from sidecar.config.model import Config
    from sidecar.identity.jwks import KeySet
    from sidecar.ledger.fence import Fence
    from sidecar.ledger.pin_keeper import Submits
    from sidecar.policy.catalogue import Catalogue


class SharedStore(ReadsRegistry, ReadsContainments, ReadsMarks, Protocol):
    """What is needed of a store."""

    @property
    def has_leases(self) -> bool:
        """Whether several processes write to it."""
        ...


@dataclass(frozen=True, slots=True)
class Callers:
    """Who may call, who may look, and what changes either."""

    registry: Registry
    authenticator: Authenticator
    doorman: Doorman
    changes: Changes
    containing: Containing
    failures: FailureCounts
    #: By issuer of signed tokens.
    key_sets: Mapping[str, KeySet] = field(default_factory=dict)

    @property
    def failures_by_reason(self) -> Mapping[str, int]:
        """How often callers were not known, by why."""
        return self.failures.by_reason

    @property
    def lockouts_total(self) -> int:
        """How often an address was locked out, on either listener."""
        return self.authenticator.lockout.locked_total + self.doorman.lockout.locked_total

    def agents_by_state(self) -> Mapping[str, int]:
        """How many agents stand how."""
        return self.registry.agents_by_state()

    def containments_by_action(self) -> Mapping[str, int]:
        """How many containments are active, by what they do."""
        return self.registry.containments_by_action()


async def made_callers(
    stack: AsyncExitStack,
    config: Config,
    clock: Clock,
    store: SharedStore,
    queue: Submits,
    fence: Fence,
    catalogue: Callable[[], Catalogue],
) -> Callers:
    """Read from the store; what is changed goes by the queue. `catalogue` gives the one that is in
    force. Raises StoreError."""
    is_alone, failures = not store.has_leases, FailureCounts()
    registry = Registry(config, store, clock, is_alone=is_alone)
    await registry.load()
    signed = None
    if config.issuers:
        from sidecar.identity.jwt_tokens import JwtTokens

        signed = JwtTokens(config.issuers, clock)
        stack.push_async_callback(signed.close)
    authenticator = Authenticator(config, registry, clock, failures, signed)
    doorman = Doorman(config, registry, clock, failures, signed, is_alone=is_alone)
    changes = Changes(config, registry, queue, clock, fence)
    known = KnownTools(config.upstreams, catalogue, store)
    containing = Containing(config, changes, registry, store, clock, known)
    keys = signed.key_sets if signed is not None else {}
    return Callers(registry, authenticator, doorman, changes, containing, failures, keys)
