"""A tenant's chain as it stands in a store: read stretch by stretch, and verified.

Knows: that a chain begins at receipt 1 or at a recorded cut, and ends at its head. A receipt is
judged by the offline verifier itself, as the line an export would give; what is added here is what
a file cannot tell: that the head is the last receipt, that the stored frontier is the tree's, that
a cut is one the chain itself tells of, that changes of state are told as receipts commit to them,
and that all is as the store's own signed heads say. Needs memory for one stretch. On a server
others may archive and erase meanwhile: that is no fault of the chain.
Must not know: how a store was opened, who asks, or what is done about a fault.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import orjson

from sidecar.ledger.anchors import Anchors, TrustedKey
from sidecar.ledger.audit_rows import is_change, row_fault
from sidecar.ledger.canonical import canonical_body
from sidecar.ledger.care import tells_of_cut
from sidecar.ledger.liveness import Liveness, SignsOfLife
from sidecar.ledger.merkle import append, frontier_from_hex, frontier_to_hex, leaf_hash, root
from sidecar.ledger.receipt import Body, body_of
from sidecar.ledger.said_yes import SaidYes, Unsaid
from sidecar.ledger.standing import LastSaid, strays_of
from sidecar.ledger.stored_heads import StoredHeads, note_rotations, signed_heads
from sidecar.ledger.verify import Watch, verify_lines
from storage.errors import StoreCorrupt
from storage.listings import Listings
from storage.records import CallFactsRow, HeadRow, ReceiptRow, RecordedEvent
from storage.retention import WHOLE, CareReader, Cut
from storage.sql_store import SqlReader
from storage.standing import AuditRow
from storage.tree import CHECKPOINTS_SINCE, TreeReader
from storage.watch_rows import WATCH_SINCE

PAGE_ROWS = 1000
#: How often a chain is looked at, at most, that does not hold and has changed meanwhile.
LOOKS_MAX = 3

_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
_NO_FACTS: Body = {"salt": None, "arguments": None, "facts": None}


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What was found of one tenant: everything holds if `fault` is None.

    `first_seq` to `last_seq` hold; `cut` says what the first one links to, if the chain was cut.
    `root` is the RFC 6962 root of the whole tree, also of a chain that was cut. `anchors` says how
    far the store's own signed heads vouch for it. `alive` is what the receipts that were read tell
    of their sidecar, which makes no chain hold or not. Of the receipts with something beside them
    there are `facts`, and `unvouched` that do not stand for the facts there. Of `untold` changes
    the receipts tell, and no audit row does. `unsaid` are calls that name somebody's yes of which
    no receipt tells, the first of `unsaid_count`. `strays` say in words what stands in the store
    otherwise than the last change of it; None where it was changed whenever it was looked at.
    """

    tenant_id: str
    first_seq: int
    last_seq: int
    head_hash: str
    root: str
    facts: int
    cut: Cut | None
    fault: str | None
    anchors: Anchors
    alive: SignsOfLife
    unvouched: int = 0
    untold: int = 0
    unsaid_count: int = 0
    unsaid: tuple[Unsaid, ...] = ()
    strays: tuple[str, ...] | None = ()


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some receipts in a row, each as the line of an export; `cut` is the head after them."""

    rows: list[ReceiptRow]
    lines: list[bytes]
    facts: int
    cut: Cut
    unvouched: int = 0


class ChainFault(Exception):
    """The first thing that is wrong with a chain, in words; `last_seq` is the last that holds."""

    def __init__(self, what: str, last_seq: int) -> None:
        super().__init__(what)
        self.last_seq = last_seq


async def verify_store(reader: SqlReader, trusted: Sequence[TrustedKey] = ()) -> list[ChainReport]:
    """One report for each tenant, also for one whose head was lost. Raises a StoreError."""
    care = CareReader(reader)
    tenants = {*await reader.tenants(), *await care.tenants_with_receipts()}
    version = await care.schema_version()
    may_be_signed = version >= CHECKPOINTS_SINCE
    if may_be_signed:
        tenants |= {row.tenant_id for row in await TreeReader(reader).latest_checkpoints()}
    reports = []
    for tenant_id in sorted(tenants):
        heads = StoredHeads(tenant_id, (), None)
        if may_be_signed:
            heads = await signed_heads(reader, tenant_id)
        found = await _verified(
            reader, tenant_id, heads, trusted,
            has_changes=may_be_signed, is_watched=version >= WATCH_SINCE,
        )  # fmt: skip
        reports.append(found)
    return reports


async def verify_chain(
    reader: SqlReader, tenant_id: str, trusted: Sequence[TrustedKey] = ()
) -> ChainReport:
    """Verifies a tenant's receipts, links, head and frontier, that the arguments, facts and
    changes of state kept are those committed to, and that the heads which were signed are of this
    history.

    `trusted` is whose heads anchor it; those of others are only compared. Raises a StoreError of
    reading.
    """
    return await _verified(reader, tenant_id, await signed_heads(reader, tenant_id), trusted)


async def _verified(
    reader: SqlReader,
    tenant_id: str,
    heads: StoredHeads,
    trusted: Sequence[TrustedKey],
    *,
    has_changes: bool = True,
    is_watched: bool = True,
) -> ChainReport:
    """What is found wrong beside those who work on the store is looked at again: it may have been
    archived or erased since the beginning was read, and that is on record."""
    care, looks = CareReader(reader), 0
    while True:
        looks += 1
        # The head after the cut: the receipt that tells of a cut is there before it.
        start = await care.cut(tenant_id)
        head = await reader.head(tenant_id)
        report = await _verified_once(
            reader, tenant_id, head, start, heads, trusted,
            has_changes=has_changes, is_watched=is_watched,
        )  # fmt: skip
        if report.fault is None or looks == LOOKS_MAX:
            return report
        if (await care.cut(tenant_id), (await reader.head(tenant_id)).seq) == (start, head.seq):
            return report


async def _verified_once(
    reader: SqlReader,
    tenant_id: str,
    head: HeadRow,
    start: Cut,
    heads: StoredHeads,
    trusted: Sequence[TrustedKey],
    *,
    has_changes: bool,
    is_watched: bool,
) -> ChainReport:
    watch, anchors, liveness = heads.watch(), Anchors(), Liveness()
    at = start
    said_yes, last_said = SaidYes(is_whole=start == WHOLE), LastSaid(is_whole=start == WHOLE)
    facts, unvouched, untold, is_told_of = 0, 0, 0, start == WHOLE
    fault: str | None = None
    strays: list[str] | None = None if has_changes else []
    try:
        for look in range(LOOKS_MAX):
            if look:  # something changed meanwhile: so much further
                head = await reader.head(tenant_id)
            async for stretch in verified_stretches(reader, tenant_id, at, head.seq, watch=watch):
                if has_changes:
                    rows, lines = stretch.rows, stretch.lines
                    untold += await hold_changes(
                        reader, tenant_id, at.ts_us, rows, lines, last_said.take
                    )
                at = stretch.cut
                note_rotations(watch, stretch.rows)
                liveness.follow(stretch.rows)
                follow_yes(said_yes, stretch.rows, stretch.lines)
                facts += stretch.facts
                unvouched += stretch.unvouched
                is_told_of = is_told_of or any(tells_of_cut(row, start) for row in stretch.rows)
            await _check_end(reader, head, at)
            if has_changes:
                await _check_no_change_beyond(reader, head)
                strays = await strays_of(
                    reader, tenant_id, last_said, head.seq, is_watched=is_watched
                )
            if strays is not None:
                break
        if not is_told_of:
            raise ChainFault(f"it was cut at {start.seq}, and no receipt after it says so", at.seq)
        anchors = heads.held(watch, at.seq, trusted)
        if anchors.fault is not None:
            last_seq = max(start.seq, anchors.fault.first_bad - 1)
            raise ChainFault(anchors.fault.what, last_seq)
    except ChainFault as error:
        fault, last_seq, strays = str(error), error.last_seq, []
    else:
        last_seq = at.seq
    return ChainReport(
        tenant_id,
        start.seq + 1,
        last_seq,
        head.receipt_hash,
        _root(at) if fault is None else "",
        facts,
        None if start == WHOLE else start,
        fault,
        anchors,
        liveness.found(),
        unvouched,
        untold,
        said_yes.count,
        tuple(said_yes.unsaid),
        None if strays is None else tuple(strays),
    )


def follow_yes(said_yes: SaidYes, rows: Sequence[ReceiptRow], lines: Sequence[bytes]) -> None:
    """Shows it the receipts that name an approval; `lines` are theirs, with facts."""
    for row, line in zip(rows, lines, strict=True):
        if row.approval_id is not None and row.kind != "control":
            said = orjson.loads(line)
            said_yes.take(
                row.seq, row.kind, row.action, row.approval_id, row.approver,
                said["arguments"], said["facts"],
            )  # fmt: skip


async def hold_changes(
    reader: SqlReader,
    tenant_id: str,
    after_us: int,
    rows: Sequence[ReceiptRow],
    lines: list[bytes],
    take: Callable[[AuditRow], None] = lambda _: None,
) -> int:
    """Holds the changes of state beside receipts in a row against them: of how many that tell of
    one there is no row. `lines` are theirs, with facts; `after_us` is the time of the receipt
    before; `take` is shown each that holds. Raises ChainFault, and any StoreError of reading."""
    first, last = rows[0].seq, rows[-1].seq
    changes = await Listings(reader).changes_between(tenant_id, first - 1, last, len(rows))
    for change in changes:
        at = change.seq - first
        before_us = rows[at - 1].ts_us if at else after_us
        fault = row_fault(change, orjson.loads(lines[at]), before_us)
        if fault is not None:
            what = f"the audit event {change.seq} is not what its receipt commits to: {fault}"
            raise ChainFault(what, change.seq - 1)
        take(change)
    told = {change.seq for change in changes}
    return sum(is_change(row.kind, row.action) and row.seq not in told for row in rows)


async def _check_no_change_beyond(reader: SqlReader, head: HeadRow) -> None:
    last = await Listings(reader).last_change(head.tenant_id)
    if last > head.seq and last > (await reader.head(head.tenant_id)).seq:
        raise ChainFault(f"the audit event {last} has no receipt", head.seq)


async def verified_stretches(
    reader: SqlReader,
    tenant_id: str,
    start: Cut,
    until_seq: int,
    *,
    with_facts: bool = True,
    watch: Watch | None = None,
) -> AsyncIterator[Stretch]:
    """The receipts after `start` up to `until_seq`, verified; `with_facts` with those beside them.
    The roots that `watch` wants are noted in it.

    Raises ChainFault at the first that does not hold, and any StoreError of reading.
    """
    try:
        frontier = frontier_from_hex(start.frontier, start.seq)
    except ValueError as error:
        raise ChainFault(f"the cut at {start.seq} is damaged: {error}", start.seq) from error
    watch = watch or Watch(frozenset())
    if start.seq in watch.sizes:
        watch.roots[start.seq] = root(frontier)
    seq, prev_hash, ts_us = start.seq, start.receipt_hash, start.ts_us
    while seq < until_seq:
        rows, beside = await page_of(reader, tenant_id, seq, until_seq, with_facts=with_facts)
        gap = next((at for at, row in enumerate(rows, seq + 1) if row.seq != at), None)
        if not rows or gap is not None:
            raise ChainFault(f"receipt {gap or seq + 1} is missing", (gap or seq + 1) - 1)
        lines = lines_of(rows, prev_hash, beside)
        verdict = verify_lines(lines, first_seq=seq + 1)
        if verdict.fault is not None:
            named = f"receipt {verdict.fault.seq}: " if verdict.fault.seq is not None else ""
            raise ChainFault(f"{named}{verdict.fault.what}", verdict.last_seq)
        if rows[0].ts_us < ts_us:
            raise ChainFault(f"receipt {rows[0].seq}: its time is before the one before it", seq)
        for row in rows:
            append(frontier, row.seq - 1, leaf_hash(canonical_body(body_of(row, prev_hash))))
            prev_hash = row.receipt_hash
            if row.seq in watch.sizes:
                watch.roots[row.seq] = root(frontier)
        seq, ts_us = rows[-1].seq, rows[-1].ts_us
        after = Cut(seq, prev_hash, ts_us, frontier_to_hex(frontier), "", "")
        yield Stretch(rows, lines, len(beside or ()), after, verdict.unvouched)


async def page_of(
    reader: SqlReader, tenant_id: str, after_seq: int, until_seq: int, *, with_facts: bool
) -> tuple[list[ReceiptRow], dict[int, CallFactsRow] | None]:
    """Some receipts in a row, up to `until_seq`, and the facts beside them: fewer where those are
    large."""
    limit = min(PAGE_ROWS, until_seq - after_seq)
    if not with_facts:
        rows = await reader.receipts(tenant_id, after_seq, limit)
        return [row for row in rows if row.seq <= until_seq], None
    recorded = await reader.recorded_after(tenant_id, after_seq, limit)
    return receipts_and_facts(recorded, until_seq)


def receipts_and_facts(
    recorded: Sequence[RecordedEvent], until_seq: int
) -> tuple[list[ReceiptRow], dict[int, CallFactsRow]]:
    """Receipts up to `until_seq`, and what stands beside them by their seqs."""
    rows = [one.receipt for one in recorded if one.receipt.seq <= until_seq]
    beside = {one.receipt.seq: one.facts for one in recorded if one.facts is not None}
    return rows, beside


def lines_of(
    rows: list[ReceiptRow], prev_hash: str, beside: dict[int, CallFactsRow] | None
) -> list[bytes]:
    """The rows as lines of an export, with facts unless `beside` is None."""
    lines = []
    for row in rows:
        line = body_of(row, prev_hash)
        if beside is not None:
            facts = beside.get(row.seq)
            line |= _facts_of(facts) if facts is not None else _NO_FACTS
        line["receipt_hash"] = row.receipt_hash
        try:
            lines.append(orjson.dumps(line, option=_OPTIONS))
        except TypeError as error:
            raise StoreCorrupt(f"receipt {row.seq} of {row.tenant_id!r}: {error}") from error
        prev_hash = row.receipt_hash
    return lines


def _facts_of(facts: CallFactsRow) -> Body:
    return {"salt": facts.salt, "arguments": facts.arguments, "facts": facts.facts}


async def _check_end(reader: SqlReader, head: HeadRow, at: Cut) -> None:
    """The head is the last receipt, or was until the chain grew; its frontier is the tree's."""
    more = await CareReader(reader).first_receipt(head.tenant_id, head.seq)
    if more is not None and (await reader.head(head.tenant_id)).seq < more:
        raise ChainFault(f"there are receipts after the head at {head.seq}", at.seq)
    if head.seq < at.seq:
        raise ChainFault(f"the head at {head.seq} is before the cut at {at.seq}", at.seq)
    if head.receipt_hash != at.receipt_hash:
        raise ChainFault(f"the head's hash is not that of receipt {head.seq}", at.seq)
    if head.frontier != at.frontier:
        raise ChainFault("the frontier at the head is not that of the tree", at.seq)
    if head.ts_us != at.ts_us:
        raise ChainFault(f"the head's time is not that of receipt {head.seq}", at.seq)


def _root(at: Cut) -> str:
    return root(frontier_from_hex(at.frontier, at.seq)).hex()
