"""Receipts: the chain as it stands, page by page, each in the very form its hash is taken of.

Knows: that a line of an answer is a line of an export, so that any verifier takes it; that the
chain begins at 1, or after what was cut off into an archive. Verifying is computed apart.
"""

from __future__ import annotations

from typing import Any, Final

import orjson
from pydantic import create_model

from sidecar.control.api.parameters import (
    SEQ_MAX,
    Choice,
    Parameter,
    Whole,
    in_path,
)
from sidecar.control.api.problems import not_found
from sidecar.control.api.route import READERS, Asked, Listed, Route, Shape
from sidecar.ledger.receipt import BODY_KEYS, INTEGER_KEYS, REQUIRED_KEYS, body_of
from storage.records import ReceiptRow
from storage.retention import CareReader
from storage.sql_store import SqlReader

ROOM: Final = "receipts"
READ_S: Final = 10.0


def _fields() -> dict[str, Any]:
    """Of a receipt: as the ledger defines it, in its order."""
    found: dict[str, Any] = {}
    for key in BODY_KEYS:
        kind: Any = int if key in INTEGER_KEYS else str
        found[key] = (kind if key in REQUIRED_KEYS else kind | None, ...)
    return {**found, "receipt_hash": (str, ...)}


#: A receipt: the body its hash is taken of, and the hash.
ReceiptShape: Any = create_model("ReceiptShape", __base__=Shape, **_fields())


class HeadShape(Shape):
    """Where a chain ends: `seq` 0 and "" before its first receipt."""

    seq: int
    receipt_hash: str
    ts_us: int
    first_seq: int


async def with_previous(reader: SqlReader, row: ReceiptRow) -> dict[str, Any]:
    """A receipt as its shape; what it links to is asked for."""
    previous = await previous_hash(reader, row.tenant_id, row.seq)
    return {**body_of(row, previous), "receipt_hash": row.receipt_hash}


async def previous_hash(reader: SqlReader, tenant: str, seq: int) -> str:
    """What receipt `seq` links to: the one before, or what the chain was cut off from; raises
    ApiProblem if it is not there any more."""
    if seq <= 1:
        return ""
    before = await reader.receipts(tenant, seq - 2, 1)
    if before and before[0].seq == seq - 1:
        return before[0].receipt_hash
    cut = await CareReader(reader).cut(tenant)
    if cut.seq >= seq:  # it was archived since it was read
        raise not_found("receipt", seq)
    return cut.receipt_hash if cut.seq == seq - 1 else ""


async def list_receipts(asked: Asked) -> Listed:
    """Oldest first from the beginning or after a seq; or newest first."""
    reader, values, tenant = asked.rooms.reader, asked.values, asked.tenant
    if values["order"] == "newest":
        return await _newest(asked)
    after = values["after"] or 0
    if asked.position is not None:
        after = int(asked.position[0])
    after += values["offset"] if asked.position is None else 0
    cut = await CareReader(reader).cut(tenant)
    after = max(after, cut.seq)
    rows = await reader.receipts(tenant, max(after - 1, cut.seq), asked.limit + 2)
    previous = cut.receipt_hash
    shown: list[dict[str, Any]] = []
    last = after
    for row in rows:
        if row.seq > after and len(shown) < asked.limit:
            shown.append({**body_of(row, previous), "receipt_hash": row.receipt_hash})
            last = row.seq
        previous = row.receipt_hash
    return Listed(shown, (last,) if rows and rows[-1].seq > last else None)


async def _newest(asked: Asked) -> Listed:
    reader, tenant = asked.rooms.reader, asked.tenant
    head, cut = await CareReader(reader).ends(tenant)
    at = asked.position
    until = head.seq - asked.values["offset"] if at is None else int(at[0])
    floor = max(cut.seq, asked.values["after"] or 0)
    first = max(until - asked.limit, floor)
    rows = await reader.receipts(tenant, max(first - 1, cut.seq), max(until - first, 0) + 1)
    previous = cut.receipt_hash
    shown: list[dict[str, Any]] = []
    for row in rows:
        if first < row.seq <= until:
            shown.append({**body_of(row, previous), "receipt_hash": row.receipt_hash})
        previous = row.receipt_hash
    return Listed(shown[::-1], (first,) if first > floor else None)


async def get_receipt(asked: Asked) -> dict[str, Any]:
    """One receipt, by its number."""
    return await with_previous(asked.rooms.reader, await receipt_at(asked))


async def receipt_at(asked: Asked) -> ReceiptRow:
    """The receipt a path names; raises ApiProblem if it is not there."""
    seq = asked.values["seq"]
    rows = await asked.rooms.reader.receipts(asked.tenant, seq - 1, 1)
    if not rows or rows[0].seq != seq:
        raise not_found("receipt", seq)
    return rows[0]


async def get_head(asked: Asked) -> dict[str, Any]:
    """Where the chain ends, and where it begins."""
    head, cut = await CareReader(asked.rooms.reader).ends(asked.tenant)
    return {
        "seq": head.seq,
        "receipt_hash": head.receipt_hash,
        "ts_us": head.ts_us,
        "first_seq": cut.seq + 1,
    }


class ChangeShape(Shape):
    """What a receipt of kind `control` or `approval` commits to, where it is kept."""

    arguments: Any
    facts: dict[str, Any] | None


async def get_facts(asked: Asked) -> dict[str, Any]:
    """What stands beside a receipt and can be erased."""
    row = await receipt_at(asked)
    beside = await asked.rooms.reader.call_facts(asked.tenant, row.seq)
    arguments = beside.arguments if beside is not None else None
    return {
        "arguments": orjson.loads(arguments) if arguments is not None else None,
        "facts": orjson.loads(beside.facts) if beside is not None else None,
    }


SEQ: Final = in_path("seq", "its number in the chain", Whole(1, SEQ_MAX))

ROUTES: Final = (
    Route(
        "list_receipts", "GET", "/v1/receipts", "The chain, oldest first or newest first",
        READERS, list_receipts, list[ReceiptShape],
        (
            Parameter("after", Whole(0, SEQ_MAX), "those with a higher seq"),
            Parameter("order", Choice(("oldest", "newest")), "which comes first", "oldest"),
        ),
        pages="offset", time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "get_chain_head", "GET", "/v1/receipts/chain-head", "Where the chain ends",
        READERS, get_head, HeadShape, time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "get_receipt", "GET", "/v1/receipts/{seq}", "One receipt",
        READERS, get_receipt, ReceiptShape, (SEQ,),
        problems=("not_found",), time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "get_receipt_facts", "GET", "/v1/receipts/{seq}/facts",
        "What stands beside a receipt, masked, until it is erased",
        READERS, get_facts, ChangeShape, (SEQ,),
        problems=("not_found",), time_limit_s=READ_S, room=ROOM,
    ),
)  # fmt: skip
