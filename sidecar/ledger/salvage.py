"""What of a damaged store can be believed: of each chain the part from its beginning that holds.

Knows: that a receipt is only worth something with all before it, so that a chain ends at the last
receipt that can be read and verifies; and that facts count as lost where they cannot be read, or
are not those the receipt commits to. The new store is a beginning of the old one, nothing more:
that something is missing is told on the record when it is put in the old one's place.
Must not know: files, how a store is opened.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from sidecar.ledger.care import tells_of_cut
from sidecar.ledger.commitment import NotCommitted, is_row_vouched_for
from sidecar.ledger.stored_chain import ChainFault, verified_stretches
from storage.errors import StoreError
from storage.records import CallFactsRow, HeadRow, OpenIntentRow, ReceiptRow
from storage.retention import WHOLE, CareReader, Cut
from storage.salvage import Salvage
from storage.sql_store import SqlReader, SqlStore

T = TypeVar("T")

#: Receipts read at once; a damaged page costs a few readings to find its edge. Of facts as many as
#: a page by bytes holds.
PAGE_ROWS = 1000
#: Beyond any chain: the damaged store's own head is not believed.
_FAR = 2**53 - 1
BOOT = "salvage"


@dataclass(frozen=True, slots=True)
class Salvaged:
    """Of one tenant: receipts `first_seq` to `last_seq` were kept.

    `head_seq` is what the damaged store says its head is (None if that cannot be read), `why` is
    what stopped it, `opened` the calls that have not ended.
    """

    tenant_id: str
    first_seq: int
    last_seq: int
    head_seq: int | None
    facts: int
    facts_lost: int
    opened: int
    why: str

    @property
    def is_whole(self) -> bool:
        """Nothing is known to be missing."""
        return self.head_seq == self.last_seq and not self.facts_lost


async def salvage(damaged: SqlReader, target: SqlStore) -> list[Salvaged]:
    """Fills an empty store with what can be believed; one answer for each tenant that is named
    anywhere. Of a chain that was cut nothing can be believed without the cut, and without the
    receipt that tells of it."""
    nobody: list[str] = []
    names = await _or(damaged.tenants, nobody)
    names = names + await _or(CareReader(damaged).tenants_with_receipts, nobody)
    return [await _salvage_tenant(damaged, target, tenant_id) for tenant_id in sorted({*names})]


async def _salvage_tenant(damaged: SqlReader, target: SqlStore, tenant_id: str) -> Salvaged:
    care, filling = CareReader(damaged), Salvage(target)
    head = await _or(lambda: damaged.head(tenant_id), None)
    start: Cut = await _or(lambda: care.cut(tenant_id), WHOLE)
    stopped: list[str] = []
    at, kept, lost = WHOLE, 0, 0
    opened: dict[str, OpenIntentRow] = {}
    if await _is_told_of(damaged, tenant_id, start, stopped):
        at = start
        async for rows, end in _sound(damaged, tenant_id, start, stopped):
            at = end
            async for part, facts, gone in _with_facts(damaged, rows):
                await filling.put(tenant_id, part, facts)
                kept, lost = kept + len(facts), lost + gone
            _follow(opened, rows, target.node_id)
    if at != start:
        epoch = head.epoch if head is not None else 0
        await filling.finish(
            HeadRow(tenant_id, at.seq, at.receipt_hash, at.ts_us, at.frontier, epoch),
            list(opened.values()),
            start,
        )
    return Salvaged(
        tenant_id,
        start.seq + 1,
        at.seq,
        head.seq if head is not None else None,
        kept,
        lost,
        len(opened),
        stopped[-1] if stopped else "",
    )


async def _is_told_of(damaged: SqlReader, tenant_id: str, start: Cut, stopped: list[str]) -> bool:
    """Whether the part that holds has the receipt that tells of the cut."""
    if start == WHOLE:
        return True
    async for rows, _ in _sound(damaged, tenant_id, start, []):
        if any(tells_of_cut(row, start) for row in rows):
            return True
    stopped.append(f"it was cut at {start.seq}, and no receipt that holds says so")
    return False


def _follow(opened: dict[str, OpenIntentRow], rows: list[ReceiptRow], node_id: str) -> None:
    """The intents without an outcome so far: the next start closes them as unknown."""
    for row in rows:
        call_id = row.call_id or ""
        if row.kind == "intent" and row.outcome is None:  # delegated ones are over at once
            opened[call_id] = OpenIntentRow(row.tenant_id, call_id, node_id, BOOT)
        elif row.kind in ("outcome", "recovery"):
            opened.pop(call_id, None)


async def _sound(
    damaged: SqlReader, tenant_id: str, start: Cut, stopped: list[str]
) -> AsyncIterator[tuple[list[ReceiptRow], Cut]]:
    """Receipts that can be read and verify, page by page, each with the head after it; why there
    are no more is added to `stopped`. Where a page cannot be read, ever smaller parts are."""
    at, size = start, PAGE_ROWS
    while size:
        stretches = verified_stretches(
            damaged, tenant_id, at, min(at.seq + size, _FAR), with_facts=False
        )
        try:
            async for stretch in stretches:
                at = stretch.cut
                yield stretch.rows, at
        except ChainFault as fault:
            # What is before the fault holds; it was not given because its page was not whole.
            stopped.append(str(fault))
            size = fault.last_seq - at.seq
        except StoreError as error:
            stopped.append(f"receipt {at.seq + size} or one shortly before it: {error}")
            size //= 2


async def _with_facts(
    damaged: SqlReader, rows: list[ReceiptRow]
) -> AsyncIterator[tuple[list[ReceiptRow], list[CallFactsRow], int]]:
    """The receipts in parts, smaller where arguments are large; with each what stands beside it and
    is theirs, and how many facts cannot be read or believed."""
    tenant_id, at, size = rows[0].tenant_id, 0, len(rows)
    while at < len(rows):
        after_seq = rows[at].seq - 1
        size = min(size, len(rows) - at)
        read = partial(damaged.recorded_after, tenant_id, after_seq, size)
        page = await _or(read, None)
        if not page and size > 1:
            size //= 2  # where what cannot be read ends is found by halving
            continue
        part = rows[at : at + (len(page) if page else 1)]
        beside = {one.facts.seq: one.facts for one in page or () if one.facts is not None}
        believed = [
            beside[row.seq]
            for row in part
            if row.seq in beside and _is_theirs(beside[row.seq], row)
        ]
        yield part, believed, len(beside) - len(believed) if page else 1
        at, size = at + len(part), 2 * size


def _is_theirs(facts: CallFactsRow, row: ReceiptRow) -> bool:
    try:
        is_row_vouched_for(row, facts)
    except NotCommitted:
        return False
    return True


async def _or(reading: Callable[[], Awaitable[T]], otherwise: T) -> T:
    """What can be read, or something else where it cannot."""
    try:
        return await reading()
    except StoreError:
        return otherwise
