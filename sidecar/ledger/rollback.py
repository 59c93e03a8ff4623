"""The receipt that owns up to a rollback: what was recorded once, and is not in the chain any more.

Knows: its words, and how they are found again by whoever verifies. What was lost stands in the
receipt itself, for ever; the operator's reason, which may name somebody, stands beside it among
what can be erased, with a commitment in the receipt, and for that not in the audit event.
Must not know: how a rollback was found, stores.
"""

from __future__ import annotations

import re
from typing import Any

from sidecar.clock import Clock
from sidecar.ledger.audited import Deed, entry_in_clear
from sidecar.ledger.canonical import canonical_arguments
from sidecar.ledger.care import RESTORE, SUBJECT
from sidecar.ledger.commitment import NONCE_BYTES, committed
from storage.known_heads import LostHead
from storage.records import Entry, ReceiptRow

ROLLBACK = "store.rollback"
_WORDS = re.compile(r"receipt ([0-9]{1,16}) \(")


def rolled_back(clock: Clock, actor: str, lost: LostHead, reason: str) -> Entry:
    """The chain goes on from `lost.there`, although `lost.seen` was recorded once.

    Raises NotCanonical for a reason that is no text.
    """
    nonce = clock.random_bytes(NONCE_BYTES)
    arguments = canonical_arguments({"reason": reason})
    before, after = lost.seen._asdict(), lost.there._asdict()
    deed = Deed(ROLLBACK, actor, SUBJECT, before, after)  # without what can be erased
    words = f"receipt {lost.seen} is lost; the chain goes on from {lost.there}"
    entry = entry_in_clear(clock, lost.tenant_id, deed, words)
    commitment, entry.facts = committed(lost.tenant_id, nonce, arguments)
    entry.receipt = entry.receipt._replace(args_commitment=commitment)
    return entry


def lost_up_to(receipt: ReceiptRow) -> int:
    """Up to which receipt a receipt says that a history was given up; 0 of any other."""
    if (receipt.kind, receipt.action) != ("control", ROLLBACK):
        return 0
    found = _WORDS.match(receipt.resource or "")
    return int(found[1]) if found else 0


def tells_of_rollback(body: dict[str, Any]) -> str | None:
    """The words of a receipt that tells of a rollback, or that a backup was put back, of which
    nobody knew what it lost; None for any other."""
    if body["kind"] != "control" or body["action"] not in (ROLLBACK, RESTORE):
        return None
    return str(body["resource"])
