"""Where reading begins, so that detections know what they must when they come to what is new.

Knows: that receipts of a tenant never go back in time, so that the first one within a horizon is
found by halving; that a chain may have been cut; that reading again is bounded.
Must not know: detections, who reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from sidecar.soc.chain_link import Link
from storage.retention import CareReader

if TYPE_CHECKING:
    from storage.sql_store import SqlReader

#: Receipts that are read again after a start, at most.
REBUILD_RECEIPTS_MAX: Final = 50_000


class Start(NamedTuple):
    """Reading goes on after `link`; `is_cut` says that the horizon lies further back."""

    link: Link
    is_cut: bool


async def start_before(
    reader: SqlReader, tenant: str, seq: int, horizon_us: int, receipts_max: int
) -> Start:
    """Where to begin, to have read all of the horizon before receipt `seq`. Raises a StoreError."""
    low = (await CareReader(reader).cut(tenant)).seq
    rows = await reader.receipts(tenant, seq - 1, 1) if seq > low else []
    if not rows or not horizon_us:
        return Start(await link_at(reader, tenant, seq), False)
    since_us, high = rows[0].ts_us - horizon_us, seq
    while low < high:
        middle = (low + high + 1) // 2
        found = await reader.receipts(tenant, middle - 1, 1)
        if found and found[0].ts_us >= since_us:
            high = middle - 1
        else:
            low = middle
    is_cut = seq - low > receipts_max
    return Start(await link_at(reader, tenant, max(low, seq - receipts_max)), is_cut)


async def link_at(reader: SqlReader, tenant: str, seq: int) -> Link:
    """The receipt `seq`, to go on after it. Raises a StoreError."""
    if seq == 0:
        return Link()
    cut = await CareReader(reader).cut(tenant)
    if seq <= cut.seq:
        return Link(cut.seq, cut.receipt_hash, cut.ts_us)
    rows = await reader.receipts(tenant, seq - 1, 1)
    if not rows or rows[0].seq != seq:
        return Link(seq, None)
    return Link(seq, rows[0].receipt_hash, rows[0].ts_us, rows[0].call_id or "")


async def over_the_cut(reader: SqlReader, tenant: str, link: Link) -> Link:
    """The link itself, or where the chain begins if it was cut beyond it. Raises a StoreError."""
    cut = await CareReader(reader).cut(tenant)
    if cut.seq <= link.seq:
        return link
    return Link(cut.seq, cut.receipt_hash, cut.ts_us)
