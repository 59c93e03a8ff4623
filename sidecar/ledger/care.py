"""What care of a store leaves in its chains: a receipt for each thing that was taken away.

Knows: the words in which erasing, pruning and restoring are recorded, as receipts of the kind
`control` that name who did it, each with its audit event. They are committed before anything is
deleted, so that a chain never lacks something it does not tell of; an erasure that was interrupted
after that is gone on with by the next start. Neither names anew whom it was done about.
Must not know: how any of it is done.
"""

from __future__ import annotations

from sidecar.clock import Clock
from sidecar.ledger.audited import Deed, entry_in_clear
from storage.records import Entry, ReceiptRow
from storage.retention import Cut

ERASE_FACTS = "store.erase_facts"
PRUNE_FACTS = "store.prune_facts"
PRUNE_RECEIPTS = "store.prune_receipts"
RESTORE = "store.restore"
ROTATE_KEY = "receipts.rotate_key"
SUBJECT = "store"


def erased_facts(
    clock: Clock,
    tenant_id: str,
    actor: str,
    kind: str,
    count: int,
    approvals: int,
    alerts: int = 0,
) -> Entry:
    """The facts of `count` calls of one agent or user, or of one call, are erased, and what so many
    approvals asked and so many alerts quoted."""
    more = f", approvals: {approvals}" if approvals else ""
    more += f", alerts: {alerts}" if alerts else ""
    before = {"of": f"one {kind}", "call_facts": count, "approvals": approvals, "alerts": alerts}
    after = before | {"call_facts": 0, "approvals": 0, "alerts": 0}
    deed = Deed(ERASE_FACTS, actor, SUBJECT, before, after)
    return entry_in_clear(clock, tenant_id, deed, f"call_facts of one {kind}: {count}{more}")


def pruned_facts(clock: Clock, tenant_id: str, actor: str, until_seq: int, count: int) -> Entry:
    """All facts beside receipts up to `until_seq` are deleted."""
    before = {"until_seq": until_seq, "call_facts": count}
    deed = Deed(PRUNE_FACTS, actor, SUBJECT, before, before | {"call_facts": 0})
    words = f"call_facts up to receipt {until_seq}: {count}"
    return entry_in_clear(clock, tenant_id, deed, words)


def pruned_receipts(clock: Clock, tenant_id: str, actor: str, cut: Cut) -> Entry:
    """Receipts up to the cut stand in an archive from now on."""
    before = {"until_seq": cut.seq, "receipt_hash": cut.receipt_hash, "archive_sha256": ""}
    after = before | {"archive_sha256": cut.archive_sha256}
    deed = Deed(PRUNE_RECEIPTS, actor, SUBJECT, before, after)
    return entry_in_clear(clock, tenant_id, deed, _words_of_cut(cut))


def restored(clock: Clock, tenant_id: str, actor: str, seq: int, receipt_hash: str) -> Entry:
    """The store was put back to what a backup held; what was recorded after it is not here."""
    after = {"seq": seq, "receipt_hash": receipt_hash}
    words = f"backup of receipts up to {seq} ({receipt_hash})"
    return entry_in_clear(clock, tenant_id, Deed(RESTORE, actor, SUBJECT, None, after), words)


def tells_of_cut(row: ReceiptRow, cut: Cut) -> bool:
    """Whether a receipt is the one that was recorded for this very cut."""
    wanted = ("control", PRUNE_RECEIPTS, _words_of_cut(cut))
    return (row.kind, row.action, row.resource) == wanted


def _words_of_cut(cut: Cut) -> str:
    return f"receipts up to {cut.seq} ({cut.receipt_hash}) archived, sha256 {cut.archive_sha256}"
