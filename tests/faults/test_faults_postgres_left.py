"""A15: a primary that was left behind comes back beside the one that took over from it. It takes
writes, and it has not what was recorded since: it is not written to, and told from the right one.
"""

from __future__ import annotations

import asyncio

import asyncpg
import postgres_server
import pytest
from failover import Load
from postgres_pair import named_together, pair

from sidecar.clock import Clock
from storage import SqlStore, open_store
from storage.errors import StoreError
from storage.known_heads import StoreRolledBack
from storage.records import Recorded


async def recorded(load: Load, name: str) -> None:
    """One more, as soon as it is taken."""
    async with asyncio.timeout(20):
        while True:
            try:
                assert isinstance(await load.queue.submit(load.entry(name)), Recorded)
                return
            except StoreError:
                await asyncio.sleep(0.05)


async def refused(store: SqlStore) -> StoreError:
    with pytest.raises(StoreError) as caught:
        await store.probe()
    return caught.value


async def calls_of(store: SqlStore) -> list[str]:
    return [row.call_id or "" for row in await store.receipts("acme", 0, 1000)]


async def test_a15_a_primary_that_was_left_behind_is_not_stayed_with() -> None:
    async with pair() as (old, new):
        url = await postgres_server.new_database(old.dsn())
        store = await open_store(
            named_together(url, old, new), now_us=Clock().now_us, node_id="node"
        )
        load = Load(store, Clock())
        await recorded(load, "before")
        await asyncio.to_thread(old.stop, "immediate")
        await asyncio.to_thread(new.promote)
        await recorded(load, "since")
        await asyncio.to_thread(old.start, "fsync=off")  # nobody made a standby of it
        await asyncio.to_thread(new.stop, "immediate")
        said = await refused(store)
        if not isinstance(said, StoreRolledBack):  # that the connection is gone was met first
            said = await refused(store)
        assert isinstance(said, StoreRolledBack), said
        assert f"127.0.0.1:{old.port}: tenant 'acme'" in str(said), (
            "it is said which server that is"
        )
        assert f"127.0.0.1:{new.port}: Connection refused" in str(said)
        assert await calls_of(store) == ["before"], "whoever reads has gone to the one there is"
        await asyncio.to_thread(new.start, "fsync=off")
        await recorded(load, "after")
        assert await calls_of(store) == ["before", "since", "after"], "and came back"
        raw = await asyncpg.connect(old.dsn(database=url.rpartition("/")[2]))
        assert await raw.fetchval("SELECT count(*) FROM receipts") == 1
        await raw.close()
        await load.queue.close()
        await store.close()
