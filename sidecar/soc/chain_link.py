"""Whether a receipt that was read is what was recorded: its hash, and its link to the one before.

Knows: that of what does not hold the place is told, and that reading then goes on after it, each
further place being one of its own. Pure.
Must not know: where receipts come from, what is done about a break.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final, NamedTuple

from sidecar.ledger.canonical import NotCanonical, canonical_body
from sidecar.ledger.receipt import body_of
from sidecar.soc.model import Evidence
from storage.records import ReceiptRow

#: As `sidecar.soc.events.CHAIN_CODES` has them.
BROKEN: Final = "receipt_broken"
ROLLED_BACK: Final = "rolled_back"


class Break(NamedTuple):
    """A chain that does not hold at receipt `seq`; `before` is the last one that does, and `code`
    is the event's."""

    seq: int
    code: str
    what: str
    before: Evidence


class Link:
    """The last receipt of a chain that was looked at: the next one is held against it.

    `receipt_hash` None is not known: the first receipt is then only held against what comes after.
    """

    __slots__ = ("call_id", "receipt_hash", "seq", "ts_us")

    def __init__(
        self, seq: int = 0, receipt_hash: str | None = "", ts_us: int = 0, call_id: str = ""
    ) -> None:
        self.seq = seq
        self.receipt_hash = receipt_hash
        self.ts_us = ts_us
        self.call_id = call_id

    def follow(self, row: ReceiptRow) -> Break | None:
        """Goes on to this receipt; what is wrong with it, if anything is."""
        found = self._fault(row)
        self.seq, self.receipt_hash, self.ts_us = row.seq, row.receipt_hash, row.ts_us
        self.call_id = row.call_id or ""
        return found

    @property
    def evidence(self) -> Evidence:
        """The receipt that was looked at last."""
        return Evidence(self.seq, self.receipt_hash or "", self.call_id, self.ts_us)

    def _fault(self, row: ReceiptRow) -> Break | None:
        if row.seq != self.seq + 1:
            what = f"receipt {self.seq + 1} is missing"
            return Break(self.seq + 1, BROKEN, what, self.evidence)
        if self.receipt_hash is None:
            return None
        try:
            computed = sha256(canonical_body(body_of(row, self.receipt_hash))).hexdigest()
        except NotCanonical:
            computed = ""
        if computed != row.receipt_hash:
            what = f"receipt {row.seq} is not what was recorded: its hash does not hold"
            return Break(row.seq, BROKEN, what, self.evidence)
        if row.ts_us < self.ts_us:
            what = f"receipt {row.seq} is older than the one before it"
            return Break(row.seq, BROKEN, what, self.evidence)
        return None
