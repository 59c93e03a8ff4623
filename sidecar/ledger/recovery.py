"""Recovery on start: what earlier boots left open is closed as `unknown`, never sent again.

Knows: that an intent without an outcome, of another boot of this node, may or may not have
reached its upstream. Running twice, or being killed half-way, changes nothing: an intent that is
not open any more is left alone.
Must not know: how anything is committed; it runs before anything is served.
"""

from __future__ import annotations

import logging

from sidecar.clock import Clock
from sidecar.ledger.receipt import blank_receipt
from sidecar.model import OutcomeKind
from storage.errors import StoreCorrupt
from storage.records import AlreadyClosed, Entry, OpenIntentRow, Recorded, Seal
from storage.sql_store import SqlStore

BATCH = 500

_log = logging.getLogger("aegis.ledger")


async def recover_all(store: SqlStore, seal: Seal, clock: Clock, *, boot_id: str) -> int:
    """What earlier boots of this node left open; of a file, which one process has, also what nodes
    of a server left that it was moved from: nobody else will. A server's own are a lease's."""
    recovered = await recover(store, seal, clock, boot_id=boot_id)
    if not store.has_leases:
        for node_id in await store.dead_nodes():
            recovered += await recover(store, seal, clock, boot_id=boot_id, node_id=node_id)
    return recovered


async def recover(
    store: SqlStore, seal: Seal, clock: Clock, *, boot_id: str, node_id: str | None = None
) -> int:
    """Closes every open intent of this node that another boot holds; gives how many.

    `node_id` is another node's, one that is known to be dead: once it lives again the rest of its
    calls is left to it.
    Raises StoreCorrupt if some cannot be closed, and any other StoreError: a store that cannot
    be recovered must not serve.
    """
    recovered = 0
    before: list[OpenIntentRow] = []
    while True:
        found = await store.open_intents(node_id or store.node_id, BATCH)
        left = [intent for intent in found if intent.boot_id != boot_id]
        if not left:
            break
        # Asked after the reading: what was read, a node opened that was dead then.
        if node_id is not None and node_id not in await store.dead_nodes():
            break
        entries = [_entry(intent, clock) for intent in left]
        answers = await store.record(entries, seal)
        closed = sum(isinstance(answer, Recorded) for answer in answers)
        # Closed already and still there, twice: a damaged index lists what cannot be deleted.
        is_stuck = left == before or not any(isinstance(one, AlreadyClosed) for one in answers)
        if not closed and is_stuck:
            raise StoreCorrupt(
                f"{len(left)} open intents cannot be closed, the first is call "
                f"{left[0].call_id} of tenant {left[0].tenant_id!r}: {answers[0]}"
            )
        recovered += closed
        before = left
    if recovered:
        _log.warning("calls of an earlier boot ended unknown", extra={"recovered": recovered})
    return recovered


def _entry(intent: OpenIntentRow, clock: Clock) -> Entry:
    receipt = blank_receipt(
        intent.tenant_id,
        "recovery",
        event_id=clock.new_id(),
        call_id=intent.call_id,
        ts_us=clock.now_us(),
        outcome=OutcomeKind.UNKNOWN.value,
    )
    return Entry(receipt, closes=intent.call_id)
