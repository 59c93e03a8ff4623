"""A primary and its standby under load, and what a failover must not lose.

Knows: two clusters of our own, callers who note what they were told, and how the new primary is
compared with that. Must not know: how many failovers a run makes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator

import asyncpg
import orjson
import postgres_server
from postgres_pair import named_together

from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from sidecar.ledger.export import export_lines
from sidecar.ledger.receipt import blank_receipt
from sidecar.ledger.verify import verify_lines
from storage import SqlStore, open_reader, open_store
from storage.errors import StoreError
from storage.records import CallFactsRow, Entry, OpenIntentRow, Recorded
from storage.write_queue import WriteQueue

CALLERS = 16
#: A standby that is promoted takes writes after so long at most.
WRITABLE_AGAIN_S = 5.0


class Load:
    """Callers who record one intent after the other and note what they were told."""

    def __init__(self, store: SqlStore, clock: Clock, *, wait_s: float = 20) -> None:
        self.acknowledged: list[str] = []
        self.failed: Counter[str] = Counter()
        #: Recorded although the caller had been refused: found by a lookup, or too late.
        self.unheard: list[str] = []
        self.is_over = False
        self.acknowledged_at = time.monotonic()
        self._clock = clock
        self._store = store
        self.queue = WriteQueue(
            store,
            seal,
            capacity=1024,
            wait_s=wait_s,
            monotonic_ns=clock.monotonic_ns,
            lookup=self._lookup,
            on_abandoned=lambda entry, _: self.unheard.append(entry.receipt.call_id or ""),
        )

    async def _lookup(self, entry: Entry) -> Recorded | None:
        rows = await self._store.receipts_of_call("acme", entry.receipt.call_id or "")
        return Recorded(rows[0].seq, rows[0].receipt_hash, rows[0].ts_us, 0) if rows else None

    def entry(self, call_id: str) -> Entry:
        """An intent of one call, with its facts."""
        draft = blank_receipt(
            "acme", "intent", event_id=call_id, call_id=call_id, ts_us=self._clock.now_us()
        )
        facts = CallFactsRow("acme", 0, "5a17", '{"a":1}', "{}")
        return Entry(draft, facts=facts, opens=OpenIntentRow("acme", call_id, "node", "boot"))

    async def caller(self) -> None:
        while not self.is_over:
            call_id = self._clock.new_id()
            try:
                answer = await self.queue.submit(self.entry(call_id))
            except StoreError as error:
                self.failed[error.code] += 1
                await asyncio.sleep(0.02)
            else:
                assert isinstance(answer, Recorded), answer
                self.acknowledged.append(call_id)
                self.acknowledged_at = time.monotonic()

    async def reaches(self, count: int, patience_s: float = 30) -> None:
        """Waits until so many more were acknowledged."""
        wanted = len(self.acknowledged) + count
        async with asyncio.timeout(patience_s):
            while len(self.acknowledged) < wanted:
                await asyncio.sleep(0.005)

    async def settled(self, patience_s: float = 20) -> None:
        """Waits until nothing of unknown outcome is left."""
        async with asyncio.timeout(patience_s):
            while self.queue.counters.unknown:
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def under_load(
    primary: postgres_server.Cluster, standby: postgres_server.Cluster
) -> AsyncIterator[tuple[Load, SqlStore]]:
    """Callers at work on a fresh database of the primary; the URL names both servers."""
    clock = Clock()
    url = await postgres_server.new_database(primary.dsn())
    store = await open_store(
        named_together(url, primary, standby), now_us=clock.now_us, node_id="node"
    )
    load = Load(store, clock)
    callers = [asyncio.create_task(load.caller()) for _ in range(CALLERS)]
    try:
        yield load, store
    finally:
        load.is_over = True
        await asyncio.gather(*callers)
        await load.queue.close()
        await store.close()


async def fail_over(
    primary: postgres_server.Cluster, standby: postgres_server.Cluster, *, is_behind: bool = False
) -> tuple[Load, float]:
    """Load before, during and after a failover; `is_behind`: to a standby that missed some.

    Gives the load, and the seconds from the promotion to the next acknowledgement.
    """
    async with under_load(primary, standby) as (load, store):
        await load.reaches(500)
        if is_behind:
            await asyncio.to_thread(standby.stop)
            await load.reaches(200)
        await asyncio.to_thread(primary.stop, "immediate")
        if is_behind:
            await asyncio.to_thread(standby.start, "fsync=off")
        await asyncio.to_thread(standby.promote)
        promoted_at = time.monotonic()
        if is_behind:
            await asyncio.sleep(1)
            return load, 0.0
        await load.reaches(1)
        took_s = time.monotonic() - promoted_at
        await load.reaches(500)
        await load.settled()
        assert store.facts().failovers_total == 1
        assert store.facts().is_writable
    return load, took_s


async def missing_after(standby: postgres_server.Cluster, load: Load) -> list[str]:
    """What was acknowledged and is not on the new primary; fails if its chain does not verify or
    a call stands there twice."""
    admin = await asyncpg.connect(standby.dsn())
    names = await admin.fetch("SELECT datname FROM pg_database WHERE datname LIKE 'aegis_%'")
    await admin.close()
    reader = await open_reader(standby.dsn(database=names[0][0]))
    try:
        lines = [line async for line in export_lines(reader, "acme")]
    finally:
        await reader.close()
    if not lines:  # a standby that was far behind has nothing of it
        return list(load.acknowledged)
    verdict = verify_lines(lines)
    assert verdict.holds, verdict
    recorded = Counter(str(orjson.loads(line)["call_id"]) for line in lines)
    assert max(recorded.values()) == 1
    assert set(load.unheard) <= set(recorded), "a lookup said so"
    return [call_id for call_id in load.acknowledged if call_id not in recorded]
