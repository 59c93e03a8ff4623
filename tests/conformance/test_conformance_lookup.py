"""A14: what a lookup says of a commit in doubt is final, or it is asked again."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import asyncpg
import pytest
from conformance_setup import intent
from postgres_proxy import Proxy

from sidecar.clock import Clock
from sidecar.write_path import made_queue
from storage import open_store
from storage.errors import CommitUnknown
from storage.records import Entry, Recorded

CONFIG = SimpleNamespace(limits=SimpleNamespace(queue=100, queue_wait_s=8.0))
PRESSURE = SimpleNamespace(observe=lambda *_: None)


@pytest.mark.parametrize("store_url", ["postgres"], indirect=True)
async def test_a_commit_that_is_still_under_way_is_not_taken_for_missing(store_url: str) -> None:
    before, _, rest = store_url.rpartition(":")
    port, _, name = rest.partition("/")
    proxy = Proxy(int(port))
    store = await open_store(f"{before}:{proxy.port}/{name}", now_us=lambda: 1, node_id="node")
    queue = made_queue(CONFIG, store, PRESSURE, Clock())  # type: ignore[arg-type]
    abandoned: list[tuple[Entry, Recorded]] = []
    queue.on_abandoned = lambda entry, recorded: abandoned.append((entry, recorded))
    other = await asyncpg.connect(store_url)
    try:
        await queue.submit(intent("c1"))
        await other.execute("SELECT set_config('aegis.tenants', '*', false)")
        held = other.transaction()
        await held.start()
        await other.execute("SELECT 1 FROM chain_head FOR UPDATE")  # another node's batch
        calling = asyncio.ensure_future(queue.submit(intent("c2")))
        await asyncio.sleep(0.3)
        proxy.break_all()  # the statement is at the server; its answer is lost
        with pytest.raises(CommitUnknown):
            await calling
        for _ in range(100):
            await asyncio.sleep(0.02)
            if not queue.counters.unknown:
                break
        await held.rollback()  # all of its entries were stale: the head stands as it stood
        await asyncio.sleep(1.0)
        rows = await other.fetch("SELECT call_id FROM open_intent ORDER BY call_id")
        assert [row[0] for row in rows] == ["c1", "c2"], "it was committed after all"
        for _ in range(100):
            await asyncio.sleep(0.02)
            if abandoned:
                break
        assert [entry.receipt.call_id for entry, _ in abandoned] == ["c2"], queue.counters.lookups
    finally:
        await other.close()
        await queue.close()
        await store.close()
        proxy.close()
