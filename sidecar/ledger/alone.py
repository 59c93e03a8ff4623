"""Records one entry by itself: where no queue is at work, before a start or beside a stopped store.

Must not know: what the entry says, who asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.ledger.chain import seal
from storage.errors import StoreCorrupt
from storage.marks import Marks, Told
from storage.records import Entry, Recorded

if TYPE_CHECKING:
    from storage.sql_store import SqlStore


async def record(store: SqlStore, entry: Entry) -> None:
    """Records the entry; raises StoreCorrupt if the chain cannot take it, and StoreMoved or
    StoreFenced if the store is moved, or was, since it was opened."""
    [answer] = await Marks(store).record_while_open(Told([entry], seal))
    if not isinstance(answer, Recorded):
        raise StoreCorrupt(f"the chain of {entry.receipt.tenant_id!r} takes no receipt: {answer}")
