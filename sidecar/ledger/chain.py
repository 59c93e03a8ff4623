"""Sealing: drafts become receipts, linked onto their tenants' heads. Pure.

Knows: sequence, link, hash and frontier. It runs in the writer's thread inside the batch's
transaction, once per batch, so it is written for speed: one dictionary, one serialisation and
two SHA-256 per receipt.
Must not know: what a draft is about, where heads are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256

import orjson

from sidecar.ledger.merkle import append, frontier_from_hex, frontier_to_hex
from sidecar.ledger.receipt import VERSION
from storage.records import HeadRow, ReceiptRow, Sealed

_CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
_FIELDS = ReceiptRow._fields[:-1]
_new_row = tuple.__new__


class _Link:
    """One tenant's head while a batch is sealed."""

    __slots__ = ("epoch", "frontier", "hash", "seq", "ts_us")

    def __init__(self, head: HeadRow) -> None:
        self.seq = head.seq
        self.hash = head.receipt_hash
        self.ts_us = head.ts_us
        self.epoch = head.epoch
        self.frontier = frontier_from_hex(head.frontier, head.seq)


def seal(heads: Mapping[str, HeadRow], drafts: Sequence[ReceiptRow]) -> Sealed:
    """Links the drafts, in order; a draft without a canonical form gives a reason in its place.

    `heads` holds a head for every tenant among the drafts. Time never runs backwards in a
    chain: a receipt's `ts_us` is at least that of the one before.
    """
    links = {tenant_id: _Link(head) for tenant_id, head in heads.items()}
    rows: list[ReceiptRow | str] = []
    for draft in drafts:
        link = links[draft[0]]
        seq = link.seq + 1
        ts_us = draft[5] if draft[5] > link.ts_us else link.ts_us
        body = dict(zip(_FIELDS, draft, strict=False))
        body["seq"] = seq
        body["ts_us"] = ts_us
        body["v"] = VERSION
        body["prev_receipt_hash"] = link.hash
        try:
            canonical = orjson.dumps(body, option=_CANONICAL)
        except TypeError as error:
            rows.append(f"no canonical form: {error}")
            continue
        digest = sha256(canonical).hexdigest()
        append(link.frontier, link.seq, sha256(b"\x00" + canonical).digest())
        link.seq, link.hash, link.ts_us = seq, digest, ts_us
        rows.append(_new_row(ReceiptRow, (draft[0], seq, *draft[2:5], ts_us, *draft[6:27], digest)))
    sealed = {
        tenant_id: HeadRow(
            tenant_id, link.seq, link.hash, link.ts_us, frontier_to_hex(link.frontier), link.epoch
        )
        for tenant_id, link in links.items()
    }
    return Sealed(sealed, rows)
