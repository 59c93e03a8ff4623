"""What care of a store leaves in its chains: a receipt for each thing that was taken away.

Knows: the words in which erasing, pruning and restoring are recorded, as receipts of the kind
`control`. They are committed before anything is deleted, so that a chain never lacks something it
does not tell of; an erasure that was interrupted after that is gone on with by the next start. No
receipt names a person anew.
Must not know: how any of it is done.
"""

from __future__ import annotations

from sidecar.clock import Clock
from sidecar.ledger.receipt import blank_receipt
from storage.records import Entry, ReceiptRow
from storage.retention import Cut

ERASE_FACTS = "store.erase_facts"
PRUNE_FACTS = "store.prune_facts"
PRUNE_RECEIPTS = "store.prune_receipts"
RESTORE = "store.restore"
ROTATE_KEY = "receipts.rotate_key"


def erased_facts(
    clock: Clock, tenant_id: str, kind: str, count: int, approvals: int, alerts: int = 0
) -> Entry:
    """The facts of `count` calls of one agent or user, or of one call, are erased, and what so many
    approvals asked and so many alerts quoted."""
    more = f", approvals: {approvals}" if approvals else ""
    more += f", alerts: {alerts}" if alerts else ""
    return _entry(clock, tenant_id, ERASE_FACTS, f"call_facts of one {kind}: {count}{more}")


def pruned_facts(clock: Clock, tenant_id: str, until_seq: int, count: int) -> Entry:
    """All facts beside receipts up to `until_seq` are deleted."""
    return _entry(clock, tenant_id, PRUNE_FACTS, f"call_facts up to receipt {until_seq}: {count}")


def pruned_receipts(clock: Clock, tenant_id: str, cut: Cut) -> Entry:
    """Receipts up to the cut stand in an archive from now on."""
    return _entry(clock, tenant_id, PRUNE_RECEIPTS, _words_of_cut(cut))


def restored(clock: Clock, tenant_id: str, seq: int, receipt_hash: str) -> Entry:
    """The store was put back to what a backup held; what was recorded after it is not here."""
    return _entry(clock, tenant_id, RESTORE, f"backup of receipts up to {seq} ({receipt_hash})")


def tells_of_cut(row: ReceiptRow, cut: Cut) -> bool:
    """Whether a receipt is the one that was recorded for this very cut."""
    wanted = ("control", PRUNE_RECEIPTS, _words_of_cut(cut))
    return (row.kind, row.action, row.resource) == wanted


def _words_of_cut(cut: Cut) -> str:
    return f"receipts up to {cut.seq} ({cut.receipt_hash}) archived, sha256 {cut.archive_sha256}"


def _entry(clock: Clock, tenant_id: str, action: str, resource: str) -> Entry:
    receipt = blank_receipt(
        tenant_id, "control", event_id=clock.new_id(), call_id=None, ts_us=clock.now_us()
    )
    return Entry(receipt._replace(action=action, resource=resource))
