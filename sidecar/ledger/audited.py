"""The entry of a change that puts no rows of its own: a control receipt and its audit event.

Knows: that the receipt names who did it, and commits to what was before, what is now and why; or
that it says what was done itself, in clear, where nothing beside it may be needed to understand a
chain; that receipt and event are committed together.
Must not know: what is changed, when, or where the entry goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sidecar.ledger.canonical import canonical_arguments
from sidecar.ledger.commitment import NONCE_BYTES, committed
from sidecar.ledger.receipt import blank_receipt
from storage.records import Entry
from storage.standing import AuditRow

if TYPE_CHECKING:
    from sidecar.clock import Clock

#: Who acts where nobody asked for it.
SIDECAR: Final = "sidecar"


class Deed(NamedTuple):
    """What was done: `action` e.g. `store.fence`, `actor` e.g. `socket:ana`; before and after as an
    auditor reads them, `before` None where nothing is known of it."""

    action: str
    actor: str
    subject: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any]
    reason: str = ""


def audited_entry(clock: Clock, tenant: str, deed: Deed) -> Entry:
    """The entry. Times and ids are drawn here. Raises NotCanonical for what is no text."""
    nonce, now_us = clock.random_bytes(NONCE_BYTES), clock.now_us()
    arguments = canonical_arguments(
        {
            "subject": deed.subject,
            "before": None if deed.before is None else dict(deed.before),
            "after": dict(deed.after),
            "reason": deed.reason,
        }
    )
    entry = _entry(clock.new_id(), now_us, tenant, deed)
    commitment, entry.facts = committed(tenant, nonce, arguments)
    entry.receipt = entry.receipt._replace(args_commitment=commitment)
    return entry


def entry_in_clear(clock: Clock, tenant: str, deed: Deed, resource: str) -> Entry:
    """The entry of a deed that the receipt tells by itself, in `resource`: there is nothing beside
    it that could be erased. Times and ids are drawn here. Raises NotCanonical."""
    entry = _entry(clock.new_id(), clock.now_us(), tenant, deed)
    entry.receipt = entry.receipt._replace(resource=resource)
    return entry


def _entry(event_id: str, now_us: int, tenant: str, deed: Deed) -> Entry:
    receipt = blank_receipt(
        tenant, "control", event_id=event_id, call_id=None, ts_us=now_us, agent_id=None
    )._replace(action=deed.action, approver=deed.actor)
    audit = AuditRow(
        tenant,
        0,
        now_us,
        deed.actor,
        deed.action,
        deed.subject,
        "" if deed.before is None else canonical_arguments(dict(deed.before)).decode(),
        canonical_arguments(dict(deed.after)).decode(),
        deed.reason,
    )
    return Entry(receipt, audit=audit)
