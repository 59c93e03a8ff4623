"""The entry that tells of another policy set: receipt and audit event, in each tenant's chain.

Knows: that a set is told by its revision, and what watches beside it by another; that a receipt of
kind `control` commits to both.
Must not know: files, when a set is loaded, the store.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sidecar.ledger.canonical import canonical_arguments
from sidecar.ledger.receipt import blank_receipt
from storage.records import CallFactsRow, Entry
from storage.standing import AuditRow

if TYPE_CHECKING:
    from sidecar.clock import Clock

#: A set came in force; one was not taken, because it is broken.
LOADED: Final = "policy.load"
REFUSED: Final = "policy.refuse"
SUBJECT: Final = "policies"
SALT_BYTES: Final = 16


class Told(NamedTuple):
    """What is told: `action` is LOADED or REFUSED; `before` is None where nothing is known of it,
    and `actor` who asked for it, or the sidecar itself."""

    action: str
    actor: str
    before: dict[str, Any] | None
    after: dict[str, Any]
    reason: str


def policy_entry(clock: Clock, tenant: str, told: Told) -> Entry:
    """The entry. Times and ids are drawn here."""
    salt, now_us = clock.random_bytes(SALT_BYTES), clock.now_us()
    arguments = canonical_arguments(
        {"subject": SUBJECT, "before": told.before, "after": told.after, "reason": told.reason}
    )
    receipt = blank_receipt(
        tenant,
        "control",
        event_id=clock.new_id(),
        call_id=None,
        ts_us=now_us,
        agent_id=None,
    )._replace(
        action=told.action,
        approver=told.actor,
        policy_revision=str(told.after["revision"]) if told.action == LOADED else None,
        args_commitment=hmac.digest(salt, arguments, "sha256").hex(),
    )
    audit = AuditRow(
        tenant,
        0,
        now_us,
        told.actor,
        told.action,
        SUBJECT,
        "" if told.before is None else canonical_arguments(told.before).decode(),
        canonical_arguments(told.after).decode(),
        told.reason,
    )
    return Entry(
        receipt, CallFactsRow(tenant, 0, salt.hex(), arguments.decode(), "{}"), audit=audit
    )
