"""The entry that tells of another policy set: receipt and audit event, in each tenant's chain.

Knows: that a set is told by its revision, and what watches beside it by another; that a receipt of
kind `control` commits to both.
Must not know: files, when a set is loaded, the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sidecar.ledger.audited import Deed, audited_entry

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from storage.records import Entry

#: A set came in force; one was not taken, because it is broken.
LOADED: Final = "policy.load"
REFUSED: Final = "policy.refuse"
SUBJECT: Final = "policies"


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
    deed = Deed(told.action, told.actor, SUBJECT, told.before, told.after, told.reason)
    entry = audited_entry(clock, tenant, deed)
    if told.action == LOADED:
        entry.receipt = entry.receipt._replace(policy_revision=str(told.after["revision"]))
    return entry
