"""What is open after a salvage."""

from __future__ import annotations

from pathlib import Path

from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from sidecar.ledger.receipt import blank_receipt
from sidecar.ledger.recovery import recover
from sidecar.ledger.salvage import salvage
from storage import open_store
from storage.records import Entry


async def test_a_decision_the_agent_acted_on_itself_is_not_open_after_a_salvage(
    tmp_path: Path,
) -> None:
    """Such an intent is the whole record: nothing of it stays open (ledger/delegations.py)."""
    clock = Clock()
    old = await open_store(f"sqlite:///{tmp_path}/old.db", now_us=clock.now_us)
    new = await open_store(f"sqlite:///{tmp_path}/new.db", now_us=clock.now_us)
    try:
        receipt = blank_receipt(
            "acme", "intent", event_id="e1", call_id="c1", ts_us=clock.now_us(),
            agent_id="coder", outcome="delegated",
        )  # fmt: skip
        await old.record([Entry(receipt)], seal)
        [told] = await salvage(old, new)
        assert told.opened == 0
        assert await recover(new, seal, clock, boot_id="b") == 0
        assert [row.kind for row in await new.receipts_of_call("acme", "c1")] == ["intent"]
    finally:
        await old.close()
        await new.close()
