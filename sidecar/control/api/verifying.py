"""Receipts verified and carried away: one, a stretch, a list that is sent in; and the export.

Knows: that the judge is the offline verifier itself, fed with the lines an export would give; what
it shows and what it cannot: that nothing was cut from the end takes a checkpoint.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Annotated, Any, Final

import orjson
from pydantic import Field

from sidecar.control.api.parameters import SEQ_MAX, Flag, Parameter
from sidecar.control.api.problems import ApiProblem, not_found
from sidecar.control.api.receipts import ROOM, SEQ, previous_hash, receipt_at
from sidecar.control.api.route import AUDITORS, MIB, WHOLE, Asked, Body, Route, Seq, Shape, Stream
from sidecar.ledger.receipt import body_of, receipt_hash
from sidecar.ledger.stored_chain import lines_of
from sidecar.ledger.verify import verify_lines
from storage.listings import Listings

#: Receipts that one request has verified, and those looked at in one piece.
VERIFIED_MAX: Final = 10_000
PAGE_ROWS: Final = 1_000
#: Receipts that may be sent in.
SENT_MAX: Final = 2_000
VERIFY_S: Final = 30.0
_OPTIONS: Final = orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE


class VerdictShape(Shape):
    """What was found: `count` receipts hold, all of them if `verified`; `error` is about the first
    that does not. `links_to` is what the first one links to: "" for the beginning of a chain."""

    verified: bool
    count: int
    first_seq: int
    last_seq: int
    links_to: str
    head_hash: str
    error: str | None


class OneVerdictShape(Shape):
    """Whether a receipt is as it was written."""

    seq: int
    verified: bool
    receipt_hash: str
    recomputed_hash: str
    prev_receipt_hash: str


class Range(Body):
    """From which receipt to which, both included; without them, the last ones up to the head."""

    from_seq: Seq | None = None
    to_seq: Seq | None = None


Number = Annotated[int, Field(ge=-SEQ_MAX, le=SEQ_MAX), WHOLE]


class SentReceipts(Body):
    """Receipts as `GET /v1/receipts` gives them, oldest first."""

    receipts: list[dict[str, str | Number | None]] = Field(min_length=1, max_length=SENT_MAX)


async def verify_one(asked: Asked) -> dict[str, Any]:
    """Recomputes the hash of one receipt, with what the store says that it links to."""
    row = await receipt_at(asked)
    previous = await previous_hash(asked.rooms.reader, asked.tenant, row.seq)
    recomputed = receipt_hash(body_of(row, previous))
    return {
        "seq": row.seq,
        "verified": recomputed == row.receipt_hash,
        "receipt_hash": row.receipt_hash,
        "recomputed_hash": recomputed,
        "prev_receipt_hash": previous,
    }


async def verify_range(asked: Asked) -> dict[str, Any]:
    """Verifies a stretch of the chain with the arguments beside it."""
    listings, tenant = Listings(asked.rooms.reader), asked.tenant
    head, cut = await asked.rooms.reader.head(tenant), await listings.cut(tenant)
    last = head.seq if asked.body.to_seq is None else asked.body.to_seq
    first = asked.body.from_seq or max(cut.seq + 1, last - VERIFIED_MAX + 1)
    if not cut.seq < first <= last <= head.seq:
        raise not_found("such range of receipts", f"{first} to {last}")
    if last - first >= VERIFIED_MAX:
        raise ApiProblem(
            "invalid_body", f"at most {VERIFIED_MAX} receipts at once", parameter="from_seq"
        )
    previous = links_to = await previous_hash(asked.rooms.reader, tenant, first)
    count, at = 0, first
    while at <= last:
        rows = await asked.rooms.reader.receipts(tenant, at - 1, min(PAGE_ROWS, last - at + 1))
        facts = await listings.facts(tenant, at - 1, min(at + PAGE_ROWS - 1, last))
        lines = lines_of(rows, previous, {row.seq: row for row in facts})
        verdict = await asked.rooms.backroom.do(partial(verify_lines, lines, first_seq=at))
        count += verdict.count
        if verdict.fault is not None:
            return _verdict(count, first, verdict.last_seq, links_to, previous, verdict.fault.what)
        at, previous = verdict.last_seq + 1, verdict.head_hash
    return _verdict(count, first, last, links_to, previous, None)


async def verify_sent(asked: Asked) -> dict[str, Any]:
    """Verifies receipts that are sent in; those of another tenant do not hold here."""
    receipts: Sequence[dict[str, Any]] = asked.body.receipts
    first = receipts[0].get("seq")
    try:
        lines = [orjson.dumps(one, option=_OPTIONS) for one in receipts]
    except TypeError as error:
        return _verdict(0, 1, 0, "", "", f"a receipt is not what a hash can be taken of: {error}")
    first_seq = first if isinstance(first, int) and first > 1 else 1
    verdict = await asked.rooms.backroom.do(partial(verify_lines, lines, first_seq=first_seq))
    fault = None if verdict.fault is None else verdict.fault.what
    if verdict.count and verdict.tenant_id != asked.tenant:
        return _verdict(0, first_seq, first_seq - 1, "", "", "it is another tenant's")
    return _verdict(
        verdict.count, first_seq, verdict.last_seq, verdict.prev_hash, verdict.head_hash, fault
    )


def _verdict(
    count: int, first: int, last: int, links_to: str, head: str, error: str | None
) -> dict[str, Any]:
    return {
        "verified": error is None,
        "count": count,
        "first_seq": first,
        "last_seq": last,
        "links_to": links_to,
        "head_hash": head,
        "error": error,
    }


async def export(asked: Asked) -> Stream:
    """The whole chain as it stands, one receipt a line, for `receipts verify`."""
    return Stream(_exported(asked, asked.values["facts"]))


async def _exported(asked: Asked, with_facts: bool) -> AsyncIterator[bytes]:
    listings, tenant = Listings(asked.rooms.reader), asked.tenant
    end, cut = (await asked.rooms.reader.head(tenant)).seq, await listings.cut(tenant)
    after, previous = cut.seq, cut.receipt_hash
    while after < end:
        until = min(after + PAGE_ROWS, end)
        rows = await asked.rooms.reader.receipts(tenant, after, until - after)
        rows = [row for row in rows if row.seq <= until]
        if len(rows) != until - after:
            raise ApiProblem("store_unavailable", f"receipts after {after} are missing")
        beside = None
        if with_facts:
            facts = await listings.facts(tenant, after, until)
            beside = {row.seq: row for row in facts}
        yield b"".join(lines_of(rows, previous, beside))
        after, previous = rows[-1].seq, rows[-1].receipt_hash


ROUTES: Final = (
    Route(
        "export_receipts", "GET", "/v1/receipts/export",
        "The chain as JSON Lines, for `aegis-sidecar receipts verify`",
        AUDITORS, export, bytes,
        (Parameter("facts", Flag(), "with the arguments, masked, and what rules saw", False),),
        media_type="application/x-ndjson", room=ROOM,
    ),
    Route(
        "verify_receipt", "GET", "/v1/receipts/{seq}/verify", "Whether a receipt is as written",
        AUDITORS, verify_one, OneVerdictShape, (SEQ,),
        problems=("not_found",), time_limit_s=VERIFY_S, room=ROOM,
    ),
    Route(
        "verify_range", "POST", "/v1/receipts/verify-range",
        "Verifies a stretch of the chain: hashes, links and the arguments committed to",
        AUDITORS, verify_range, VerdictShape, body=Range, is_body_optional=True,
        problems=("not_found",), time_limit_s=VERIFY_S, room=ROOM,
    ),
    Route(
        "verify_chain", "POST", "/v1/receipts/verify-chain",
        "Verifies receipts that are sent in", AUDITORS, verify_sent, VerdictShape,
        body=SentReceipts, body_bytes_max=4 * MIB, time_limit_s=VERIFY_S, room=ROOM,
    ),
)  # fmt: skip
