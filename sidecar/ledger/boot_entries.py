"""The receipts that say that a sidecar began, goes on and ended: a boot of it, in a tenant's chain.

Knows: their words. What is said stands in the receipt's `resource` as JSON, in clear: an auditor
has only the receipts, and what stands beside them can be erased. A boot is named by its id; on
which node it ran is told in the audit event. That it goes on changes nothing, and is no audit
event; what it promises (`heartbeat_us`, 0 for nothing) is said each time, since a chain may begin
in the middle of a boot.
Must not know: when they are written, what a verifier makes of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from sidecar.ledger.audited import SIDECAR, Deed, entry_in_clear
from sidecar.ledger.canonical import canonical_arguments

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from storage.records import Entry

START: Final = "sidecar.start"
ALIVE: Final = "sidecar.alive"
STOP: Final = "sidecar.stop"

#: How the boot before ended: by its own record, without one, or nothing is known of any.
STOPPED: Final = "stopped"
NO_STOP: Final = "no_stop"
UNKNOWN: Final = "unknown"

_REASONS: Final = {NO_STOP: "the boot before ended without a stop on record"}


class Before(NamedTuple):
    """The boot before of the same node, as far as the chain tells; `boot` "" of none."""

    boot: str
    ended: str


class Boot(NamedTuple):
    """A boot and where it runs; a receipt is promised at least every `heartbeat_us`."""

    node: str
    boot_id: str
    heartbeat_us: int


def started(clock: Clock, tenant: str, boot: Boot, before: Before) -> Entry:
    """The boot has begun to serve the tenant."""
    was = {"boot": before.boot or None, "ended": before.ended}
    said = {"boot": boot.boot_id, "heartbeat_us": boot.heartbeat_us}
    reason = _REASONS.get(before.ended, "")
    deed = Deed(START, SIDECAR, boot.node, was, said | {"node": boot.node}, reason)
    return entry_in_clear(clock, tenant, deed, _text(said | {"before": was}))


def alive(clock: Clock, tenant: str, boot: Boot) -> Entry:
    """Nothing happened, and the boot goes on."""
    said = {"boot": boot.boot_id, "heartbeat_us": boot.heartbeat_us}
    entry = entry_in_clear(clock, tenant, Deed(ALIVE, SIDECAR, boot.node, None, {}), _text(said))
    entry.audit = None
    return entry


def stopped(clock: Clock, tenant: str, boot: Boot, open_calls: int) -> Entry:
    """The boot ends in order; `open_calls` of the tenant have no outcome on record."""
    said = {"boot": boot.boot_id, "open_calls": open_calls}
    deed = Deed(STOP, SIDECAR, boot.node, None, said | {"node": boot.node})
    return entry_in_clear(clock, tenant, deed, _text(said))


def read_boot(resource: object) -> dict[str, Any] | None:
    """What such a receipt says, with a `boot`; None of what none of them would say."""
    try:
        said = orjson.loads(resource) if isinstance(resource, str) else None
    except orjson.JSONDecodeError:
        return None
    return said if isinstance(said, dict) and isinstance(said.get("boot"), str) else None


def _text(said: Mapping[str, Any]) -> str:
    return canonical_arguments(said).decode()
