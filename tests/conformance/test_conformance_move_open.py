"""What was in flight on a server when it was left is closed by the file that takes its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from conformance_setup import intent

from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from sidecar.ledger.recovery import recover_all
from sidecar.ledger.stored_chain import verify_chain
from storage import open_side, open_store
from storage.move import leave_source, move
from storage.retention import Retention


@pytest.mark.parametrize("store_url", ["postgres"], indirect=True)
async def test_what_a_server_left_open_is_closed_by_the_file_it_was_moved_to(
    store_url: str, tmp_path: Path
) -> None:
    clock, target_url = Clock(), f"sqlite:///{tmp_path}/store.db"
    server = await open_store(store_url, now_us=clock.now_us, node_id="host:8080")
    entry = intent("c1", node_id="host:8080")
    entry.facts = None
    await server.record([entry], seal)  # and then it was killed
    await server.close()
    source, source_reader = await open_side(store_url, "a", now_us=clock.now_us, is_target=False)
    target, target_reader = await open_side(target_url, "b", now_us=clock.now_us, is_target=True)

    async def verify(reader, tenant_id):  # type: ignore[no-untyped-def]
        assert (await verify_chain(reader, tenant_id)).fault is None

    await move(
        source, target, verify, lambda *_: None, lambda heads: leave_source(source, "b", heads)
    )
    await source_reader.close()
    await target_reader.close()
    # As a sidecar starts on the file: one process has it, so nobody else can hold that call.
    store = await open_store(target_url, now_us=clock.now_us)
    try:
        recovered = await recover_all(store, seal, clock, boot_id=clock.new_id())
        assert [row.kind for row in await store.receipts_of_call("acme", "c1")] == [
            "intent",
            "recovery",
        ]
        assert recovered == 1
        assert await Retention(store).first_open_call("acme") is None, (
            "or prune stops there for ever"
        )
    finally:
        await store.close()
