"""Reads never slow a decision: not those that people wait for, and not the store's own."""

from __future__ import annotations

import asyncio
import time

import pytest
from conformance_setup import intent, seal

from storage import SqlStore
from storage.write_queue import WriteQueue


@pytest.mark.parametrize("store_url", ["postgres"], indirect=True)
async def test_calls_do_not_wait_for_readers_once_a_minute(store: SqlStore) -> None:
    queue = WriteQueue(store, seal, capacity=9, wait_s=2.0, monotonic_ns=time.monotonic_ns)
    await queue.submit(intent("c1"))
    store._driver._size_due_ns = 0  # type: ignore[attr-defined]  # a minute later
    busy = [
        asyncio.ensure_future(store._driver.fetch("SELECT pg_sleep(4)::text", tenant="acme"))
        for _ in range(4)
    ]
    await asyncio.sleep(0.3)
    began = time.monotonic()
    try:
        await queue.submit(intent("c2"))
        await queue.submit(intent("c3"))  # QueueTimeout: the writer waits for a reader
        assert time.monotonic() - began < 1
        assert queue.healthy
    finally:
        await asyncio.gather(*busy)
        await queue.close()
