"""Recovery on start: what earlier boots left open is closed as `unknown`, never sent again.

Knows: that an intent without an outcome, of another boot of this node, may or may not have
reached its upstream. Running twice, or being killed half-way, changes nothing: an intent that is
not open any more is left alone.
"""

from __future__ import annotations

from sidecar.clock import Clock
from sidecar.ledger.recorder import blank_receipt
from sidecar.model import OutcomeKind
from storage.protocol import Store
from storage.records import Entry, Recorded, Seal

BATCH = 500


async def recover(store: Store, seal: Seal, clock: Clock, *, boot_id: str) -> int:
    """Closes every open intent of this node that another boot holds; gives how many.

    Raises a StoreError: a store that cannot be recovered must not serve.
    """
    recovered = 0
    while True:
        found = await store.open_intents(store.node_id, BATCH)
        left = [intent for intent in found if intent.boot_id != boot_id]
        if not left:
            return recovered
        entries = [
            Entry(
                blank_receipt(
                    intent.tenant_id,
                    "recovery",
                    event_id=clock.new_id(),
                    call_id=intent.call_id,
                    ts_us=clock.now_us(),
                    outcome=OutcomeKind.UNKNOWN.value,
                ),
                closes=intent.call_id,
            )
            for intent in left
        ]
        answers = await store.record(entries, seal)
        recovered += sum(isinstance(answer, Recorded) for answer in answers)
