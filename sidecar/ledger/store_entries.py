"""The entries that tell what became of a store as a whole: fenced, let go, moved.

Knows: their words, and that a store is named as people are shown it, without its password.
Must not know: how a fence stands, how a store is moved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.ledger.audited import Deed, audited_entry

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from storage.marks import FenceMark
    from storage.records import Entry

FENCE: Final = "store.fence"
UNFENCE: Final = "store.unfence"
MOVE: Final = "store.move"
SUBJECT: Final = "store"


def fenced(clock: Clock, tenant: str, actor: str, mark: FenceMark) -> Entry:
    """Calls are refused from now on, for a move to `mark.target`."""
    deed = Deed(FENCE, actor, SUBJECT, {"fenced": False}, _stands(mark), mark.reason)
    return audited_entry(clock, tenant, deed)


def unfenced(clock: Clock, tenant: str, actor: str, mark: FenceMark, reason: str) -> Entry:
    """The fence of `mark` is lifted: calls go ahead again."""
    deed = Deed(UNFENCE, actor, SUBJECT, _stands(mark), {"fenced": False}, reason)
    return audited_entry(clock, tenant, deed)


def moved(clock: Clock, tenant: str, actor: str, source: str, target: str, seq: int) -> Entry:
    """Receipts up to `seq` came from the store `source` to this one, `target`."""
    before, after = {"store": source, "seq": seq}, {"store": target, "seq": seq}
    return audited_entry(clock, tenant, Deed(MOVE, actor, SUBJECT, before, after, ""))


def _stands(mark: FenceMark) -> dict[str, object]:
    return {
        "fenced": True,
        "fence_id": mark.fence_id,
        "node": mark.node_id,
        "target": mark.target,
    }
