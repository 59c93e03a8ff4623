"""What a move of a store leaves in its chains, by the command that moves it.

Knows: that the new store tells that it was moved once the move is over, since what is copied and
compared has to stand still, and what was left is not written to; that a source whose fence is
lifted because the move failed tells that.
Must not know: how a store is moved.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from sidecar.ledger.store_entries import MOVE, moved, unfenced
from sidecar.local_users import command_actor
from storage.errors import StoreCorrupt, StoreError
from storage.marks import FenceMark, Marks, Told
from storage.records import Recorded
from storage.sql_store import SqlStore

if TYPE_CHECKING:
    from storage.move_sides import Side
    from storage.sql_store import SqlReader

#: Why a fence is lifted that a move raised, or found.
FAILED: Final = "the move failed"
_NEWEST: Final = 2**62


async def drop_fence(source: SqlReader, left: FenceMark) -> None:
    """Lifts the fence that was left on a source, on record there."""
    clock, actor = Clock(), command_actor()
    tenants = await source.tenants()
    entries = [unfenced(clock, tenant, actor, left, FAILED) for tenant in tenants]
    await Marks(source).drop_fence(Told(entries, seal))


async def tell_of_move(source: Side, target: Side, store: SqlReader) -> None:
    """Each chain of the target, open as `store`, goes on with a receipt that says where it came
    from, unless it has it. Raises a StoreError; the same move again then does nothing but this."""
    try:
        await _tell(source, target, store)
    except StoreError:
        print(
            "Everything was moved; that it was is not on record yet: give the same command again "
            "before the sidecar starts.",
            file=sys.stderr,
        )
        raise


async def _tell(source: Side, target: Side, store: SqlReader) -> None:
    if not isinstance(store, SqlStore):
        raise StoreError(f"{target.shown} was opened for reading only")
    clock, actor = Clock(), command_actor()
    for tenant_id, seq, *_ in sorted(await source.fetch("move_heads")):
        events = await store.audit_events(tenant_id, _NEWEST, 1, action=MOVE)
        if not seq or (events and events[0].seq > seq):
            continue
        entry = moved(clock, tenant_id, actor, source.shown, target.shown, seq)
        [answer] = await store.record([entry], seal)
        if not isinstance(answer, Recorded):
            raise StoreCorrupt(f"the chain of {tenant_id!r} takes no receipt: {answer}")
