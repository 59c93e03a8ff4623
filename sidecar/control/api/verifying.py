"""Receipts verified and carried away: one, a stretch, a list that is sent in; and the export.

Knows: that the judge is the offline verifier itself, fed with the lines an export would give; what
it shows and what it cannot: that nothing was cut from the end takes a checkpoint, so that each
verdict says how far the heads which were signed vouch for it; that receipts somebody kept must be
those which stand here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated, Any, Final

import orjson
from pydantic import Field

from sidecar.control.api.alive import NOTHING_TOLD, AliveShape, alive
from sidecar.control.api.anchoring import (
    NONE,
    AnchoredShape,
    anchored,
    anchors_of,
    stretch_of,
    words_of,
)
from sidecar.control.api.backroom import Seat
from sidecar.control.api.parameters import SEQ_MAX, Flag, Parameter
from sidecar.control.api.problems import ApiProblem, not_found
from sidecar.control.api.receipts import ROOM, SEQ, previous_hash, receipt_at
from sidecar.control.api.route import AUDITORS, MIB, WHOLE, Asked, Body, Route, Seq, Stream
from sidecar.control.api.yeses import UnsaidShape, unsaid, unsaid_count
from sidecar.ledger.anchors import Anchors
from sidecar.ledger.canonical import canonical_body
from sidecar.ledger.commitment import NO_FACTS, NotCommitted, is_row_vouched_for
from sidecar.ledger.liveness import Liveness, SignsOfLife
from sidecar.ledger.merkle import leaf_hash
from sidecar.ledger.receipt import BODY_KEYS, body_of, receipt_hash
from sidecar.ledger.said_yes import SaidYes
from sidecar.ledger.stored_chain import (
    LOOKS_MAX,
    ChainFault,
    follow_yes,
    hold_changes,
    lines_of,
    page_of,
    receipts_and_facts,
)
from sidecar.ledger.stored_heads import HeldStretch, note_rotations
from sidecar.ledger.tiles import leaf_hashes
from sidecar.ledger.verify import Verdict, verify_lines
from storage.listings import Listings
from storage.records import ReceiptRow

#: Receipts that one request has verified, and those looked at in one piece.
VERIFIED_MAX: Final = 10_000
PAGE_ROWS: Final = 1_000
#: Receipts that may be sent in.
SENT_MAX: Final = 2_000
VERIFY_S: Final = 30.0
#: Where nothing was read.
NO_YES: Final = SaidYes(is_whole=False)
#: Gives a verdict, with `verified`.
Look = Callable[[Asked, Seat], Awaitable[dict[str, Any]]]
_OPTIONS: Final = orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE


class VerdictShape(AnchoredShape):
    """What was found: `count` receipts hold, all of them if `verified`; `error` is about the first
    that does not, or about a signed head that they do not fit. `links_to` is what the first one
    links to: "" for the beginning of a chain. `alive` is what they tell of their sidecar. Beside
    `facts` of them stands what the rules saw; of `unvouched` nothing shows that it is what they saw
    then (arguments were not kept, or the receipt is older than that is recorded). `unsaid` are the
    first of `unsaid_count` calls by a yes that is not on record; of a stretch that does not begin
    the chain only what was asked in it can be judged."""

    count: int
    first_seq: int
    last_seq: int
    links_to: str
    head_hash: str
    facts: int
    unvouched: int
    unsaid_count: int
    unsaid: list[UnsaidShape]
    alive: AliveShape


class SentVerdictShape(VerdictShape):
    """Of receipts that were sent in; `compared` of them stand in the store, and are the same."""

    compared: int


class OneVerdictShape(AnchoredShape):
    """Whether a receipt, and what stands beside it, is as it was written. `facts_vouched` says
    whether the receipt shows that of the facts; null without any."""

    seq: int
    facts_vouched: bool | None
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


async def _looked_again(asked: Asked, look: Look) -> dict[str, Any]:
    """What is found wrong is looked at again where the chain has changed meanwhile: on a server
    others archive and erase, which is on record and no fault."""
    listings = Listings(asked.rooms.reader)
    with asked.rooms.backroom.seat(asked.person) as seat:
        for _ in range(LOOKS_MAX - 1):
            ends = await listings.ends(asked.tenant)
            said = await look(asked, seat)
            if said["verified"] or await listings.ends(asked.tenant) == ends:
                return said
        return await look(asked, seat)


async def verify_one(asked: Asked) -> dict[str, Any]:
    """What `_one_as_it_stands` says of one receipt."""
    return await _looked_again(asked, _one_as_it_stands)


async def _one_as_it_stands(asked: Asked, seat: Seat) -> dict[str, Any]:
    """Recomputes the hash of one receipt, with what the store says that it links to, and looks
    whether what stands beside it, and the change of state, is what it commits to."""
    reader, tenant = asked.rooms.reader, asked.tenant
    stretch = await stretch_of(asked)
    row, head = await receipt_at(asked), await reader.head(tenant)
    previous = await previous_hash(reader, tenant, row.seq)
    recomputed = receipt_hash(body_of(row, previous))
    anchors, error = Anchors(), None
    beside, vouched = await reader.call_facts(tenant, row.seq), None
    if recomputed != row.receipt_hash:
        error = "its content does not match its receipt_hash"
    else:
        await stretch.begin(row.seq)
        stretch.take(leaf_hashes([row], previous))
        anchors = await anchors_of(seat, stretch, head)
        error = words_of(anchors)
    if beside is not None:
        try:
            is_vouched = is_row_vouched_for(row, beside)
            vouched = None if beside.facts == NO_FACTS else is_vouched
        except NotCommitted as fault:
            error = error or str(fault)
    if error is None:
        try:
            lines = lines_of([row], previous, {row.seq: beside} if beside is not None else {})
            await hold_changes(reader, tenant, row.ts_us, [row], lines)
        except ChainFault as other:
            error = str(other)
    return {
        "seq": row.seq,
        "facts_vouched": vouched,
        "verified": error is None,
        "receipt_hash": row.receipt_hash,
        "recomputed_hash": recomputed,
        "prev_receipt_hash": previous,
        "error": error,
        **anchored(anchors, row.seq, row.seq),
    }


async def verify_range(asked: Asked) -> dict[str, Any]:
    """What `_range_as_it_stands` says of a stretch of the chain."""
    return await _looked_again(asked, _range_as_it_stands)


async def _range_as_it_stands(asked: Asked, seat: Seat) -> dict[str, Any]:
    """Verifies a stretch of the chain with what stands beside it, against the signed heads."""
    reader, tenant = asked.rooms.reader, asked.tenant
    listings, stretch = Listings(reader), await stretch_of(asked)
    head, cut = await reader.head(tenant), await listings.cut(tenant)
    last = head.seq if asked.body.to_seq is None else asked.body.to_seq
    first = asked.body.from_seq or max(cut.seq + 1, last - VERIFIED_MAX + 1)
    if not cut.seq < first <= last <= head.seq:
        raise not_found("such range of receipts", f"{first} to {last}")
    if last - first >= VERIFIED_MAX:
        raise ApiProblem(
            "invalid_body", f"at most {VERIFIED_MAX} receipts at once", parameter="from_seq"
        )
    previous = links_to = await previous_hash(reader, tenant, first)
    await stretch.begin(first)
    count, at, liveness, facts, unvouched = 0, first, Liveness(), 0, 0
    said_yes = SaidYes(is_whole=first == 1)
    while at <= last:
        recorded = await reader.recorded_after(tenant, at - 1, min(PAGE_ROWS, last - at + 1))
        rows, beside = receipts_and_facts(recorded, last)
        lines = lines_of(rows, previous, beside)
        verdict = await seat.do(
            partial(_read_page, stretch, liveness, said_yes, rows, lines, at, previous)
        )
        count, facts = count + verdict.count, facts + verdict.facts
        unvouched += verdict.unvouched
        if verdict.fault is not None:
            what, found = verdict.fault.what, liveness.found()
            return _verdict(
                count, first, verdict.last_seq, links_to, previous, what, found, said_yes,
                facts=(facts, unvouched),
            )  # fmt: skip
        try:
            await hold_changes(reader, tenant, rows[0].ts_us, rows, lines)
        except ChainFault as bad:
            return _verdict(
                bad.last_seq - first + 1, first, bad.last_seq, links_to, previous, str(bad),
                liveness.found(), said_yes, facts=(facts, unvouched),
            )  # fmt: skip
        at, previous = verdict.last_seq + 1, verdict.head_hash
    anchors = await anchors_of(seat, stretch, head)
    error, found = words_of(anchors), liveness.found()
    return _verdict(
        count, first, last, links_to, previous, error, found, said_yes, anchors,
        facts=(facts, unvouched),
    )  # fmt: skip


def _read_page(
    stretch: HeldStretch,
    liveness: Liveness,
    said_yes: SaidYes,
    rows: Sequence[ReceiptRow],
    lines: list[bytes],
    at: int,
    previous: str,
) -> Verdict:
    verdict = verify_lines(lines, first_seq=at)
    liveness.follow(rows[: verdict.count])
    follow_yes(said_yes, rows[: verdict.count], lines[: verdict.count])
    if verdict.fault is None and stretch.wants_leaves:
        stretch.take(leaf_hashes(rows, previous))
        note_rotations(stretch.watch, rows)
    return verdict


async def verify_sent(asked: Asked) -> dict[str, Any]:
    """Verifies receipts that are sent in, and holds them against the store: those of another tenant
    do not hold here, nor those in whose place another one stands, or none."""
    receipts: Sequence[dict[str, Any]] = asked.body.receipts
    first = receipts[0].get("seq")
    try:
        lines = [orjson.dumps(one, option=_OPTIONS) for one in receipts]
    except TypeError as error:
        what = f"a receipt is not what a hash can be taken of: {error}"
        return _verdict(0, 1, 0, "", "", what, NOTHING_TOLD, NO_YES) | {"compared": 0}
    first_seq = first if isinstance(first, int) and first > 1 else 1
    with asked.rooms.backroom.seat(asked.person) as seat:
        return await _verified_lines(asked, seat, lines, first_seq)


async def _verified_lines(
    asked: Asked, seat: Seat, lines: list[bytes], first_seq: int
) -> dict[str, Any]:
    verdict = await seat.do(partial(verify_lines, lines, first_seq=first_seq))
    fault = None if verdict.fault is None else verdict.fault.what
    if verdict.count and verdict.tenant_id != asked.tenant:
        what = "it is another tenant's"
        said = _verdict(0, first_seq, first_seq - 1, "", "", what, NOTHING_TOLD, NO_YES)
        return said | {"compared": 0}
    compared, anchors = 0, Anchors()
    if fault is None:
        compared, fault, anchors = await _held_against_store(asked, seat, first_seq)
    said = _verdict(
        verdict.count, first_seq, verdict.last_seq, verdict.prev_hash, verdict.head_hash, fault,
        verdict, verdict, anchors, facts=(verdict.facts, verdict.unvouched),
    )  # fmt: skip
    return said | {"compared": compared}


async def _held_against_store(
    asked: Asked, seat: Seat, first: int
) -> tuple[int, str | None, Anchors]:
    """How many receipts, which hold by themselves, stand in the store; what is wrong with the first
    that does not; and how far all of them are anchored."""
    reader, tenant = asked.rooms.reader, asked.tenant
    receipts: Sequence[dict[str, Any]] = asked.body.receipts
    stretch = await stretch_of(asked)
    head = await reader.head(tenant)
    last = first + len(receipts) - 1
    stored: dict[int, str] = {}
    for after in range(first - 1, min(last, head.seq), PAGE_ROWS):
        rows = await reader.receipts(tenant, after, min(PAGE_ROWS, last - after))
        stored |= {row.seq: row.receipt_hash for row in rows if row.seq <= last}
    cut = await Listings(reader).cut(tenant)  # after them: they may be archived meanwhile
    compared = 0
    for one in receipts:
        seq, there = one["seq"], stored.get(one["seq"])
        if seq > head.seq:
            return compared, f"receipt {seq} is not in the store, which ends at {head.seq}", NONE
        if there is None and seq > cut.seq:
            return compared, f"receipt {seq} is missing in the store", NONE
        if there is not None and there != one["receipt_hash"]:
            return compared, f"receipt {seq} is another one in the store", NONE
        compared += there is not None
    await stretch.begin(first)
    if stretch.wants_leaves:
        await seat.do(partial(_take_sent, stretch, receipts))
    anchors = await anchors_of(seat, stretch, head)
    return compared, words_of(anchors), anchors


def _take_sent(stretch: HeldStretch, receipts: Sequence[dict[str, Any]]) -> None:
    stretch.take(
        leaf_hash(canonical_body({key: one[key] for key in BODY_KEYS})) for one in receipts
    )


def _verdict(
    count: int,
    first: int,
    last: int,
    links_to: str,
    head: str,
    error: str | None,
    found: SignsOfLife | Verdict,
    said: SaidYes | Verdict,
    anchors: Anchors = NONE,
    facts: tuple[int, int] = (0, 0),
) -> dict[str, Any]:
    """`facts` are beside how many receipts there are some, and how many of these do not vouch."""
    return {
        "verified": error is None,
        "count": count,
        "first_seq": first,
        "last_seq": last,
        "links_to": links_to,
        "head_hash": head,
        "error": error,
        "facts": facts[0],
        "unvouched": facts[1],
        "unsaid_count": unsaid_count(said),
        "unsaid": unsaid(said),
        "alive": alive(found),
        **anchored(anchors, first, last),
    }


async def export(asked: Asked) -> Stream:
    """The whole chain as it stands, one receipt a line, for `receipts verify`."""
    return Stream(_exported(asked, asked.values["facts"]))


async def _exported(asked: Asked, with_facts: bool) -> AsyncIterator[bytes]:
    reader, tenant = asked.rooms.reader, asked.tenant
    end, cut = (await reader.head(tenant)).seq, await Listings(reader).cut(tenant)
    after, previous = cut.seq, cut.receipt_hash
    while after < end:
        until = min(after + PAGE_ROWS, end)
        rows, beside = await page_of(reader, tenant, after, until, with_facts=with_facts)
        if not rows or rows[-1].seq != after + len(rows):
            raise ApiProblem("store_unavailable", f"receipts after {after} are missing")
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
        "Verifies a stretch of the chain: hashes, links, what stands beside, signed heads",
        AUDITORS, verify_range, VerdictShape, body=Range, is_body_optional=True,
        problems=("not_found",), time_limit_s=VERIFY_S, room=ROOM,
    ),
    Route(
        "verify_chain", "POST", "/v1/receipts/verify-chain",
        "Verifies receipts that are sent in, and compares them with those that stand here",
        AUDITORS, verify_sent, SentVerdictShape,
        body=SentReceipts, body_bytes_max=4 * MIB, time_limit_s=VERIFY_S, room=ROOM,
    ),
)  # fmt: skip
