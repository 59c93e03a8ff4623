"""Who watches a tenant's record, and how far they have come. Pure.

Knows: that a node watches for as long as its mark says, that each move of the mark is one version
on, so that of two nodes which think they watch only one gets anything recorded, and that a node
whose tenant is quiet lets its lease run out and takes it up again: another waits a while first.
Must not know: stores, clocks, what is looked for.
"""

from __future__ import annotations

from typing import Final

from storage.watch_rows import WatchMark

#: The watcher of detections, as the store knows it.
WATCHER: Final = "detections"
LEASE_US: Final = 10_000_000
#: For so long another node sees that nobody looks at what is new before it takes over.
GRACE_NS: Final = 3_000_000_000


def first_mark(tenant: str, watcher: str, node_id: str, seq: int, at_us: int) -> WatchMark:
    """Where watching begins."""
    return WatchMark(tenant, watcher, 1, node_id, seq, at_us + LEASE_US, at_us)


def moved(mark: WatchMark, node_id: str, seq: int, at_us: int) -> WatchMark:
    """The mark one version on: this node's, at `seq`, for another lease."""
    return mark._replace(
        version=mark.version + 1,
        node_id=node_id,
        seq=seq,
        until_us=at_us + LEASE_US,
        changed_at_us=at_us,
    )


def may_claim(mark: WatchMark, node_id: str, at_us: int) -> bool:
    """Whether this node may watch: its own mark at once, another's when that has run out."""
    return mark.node_id == node_id or mark.until_us <= at_us
