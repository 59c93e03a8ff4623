"""A failover under load: the primary is killed, its synchronous standby takes over, and nothing
that was acknowledged is missing; no call is recorded twice, and the chain is one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import asyncpg
import orjson
import postgres_server
import pytest

from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from sidecar.ledger.export import export_lines
from sidecar.ledger.receipt import blank_receipt
from sidecar.ledger.verify import verify_lines
from storage import SqlStore, open_reader, open_store
from storage.errors import StoreError
from storage.records import Entry, Recorded
from storage.write_queue import WriteQueue

CALLERS = 16


@contextlib.asynccontextmanager
async def pair(
    *, is_synchronous: bool = True
) -> AsyncIterator[tuple[postgres_server.Cluster, postgres_server.Cluster]]:
    """A primary and its standby, both running; a commit waits for the standby, or does not."""
    with postgres_server.new_cluster() as primary, postgres_server.new_cluster() as standby:
        primary.initialise()
        primary.start("wal_level=replica", "fsync=off")
        standby.run(
            "pg_basebackup", "-D", str(standby.data), "-R", "-X", "stream", "-c", "fast",
            "-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres",
        )  # fmt: skip
        standby.start("fsync=off")
        if is_synchronous:
            admin = await asyncpg.connect(primary.dsn())
            await admin.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            await admin.execute("SELECT pg_reload_conf()")
            await admin.close()
        yield primary, standby


class Load:
    """Callers who record one refusal after the other and note what they were told."""

    def __init__(self, store: SqlStore, clock: Clock) -> None:
        self.acknowledged: list[str] = []
        self.failed: Counter[str] = Counter()
        self.is_over = False
        self._clock = clock
        self._queue = WriteQueue(
            store,
            seal,
            capacity=1024,
            wait_s=20,
            monotonic_ns=clock.monotonic_ns,
            lookup=self._lookup,
        )
        self._store = store

    async def _lookup(self, entry: Entry) -> Recorded | None:
        rows = await self._store.receipts_of_call("acme", entry.receipt.call_id or "")
        return Recorded(rows[0].seq, rows[0].receipt_hash, rows[0].ts_us, 0) if rows else None

    async def caller(self) -> None:
        while not self.is_over:
            call_id = self._clock.new_id()
            draft = blank_receipt(
                "acme", "refusal", event_id=call_id, call_id=call_id, ts_us=self._clock.now_us()
            )
            try:
                answer = await self._queue.submit(Entry(draft))
            except StoreError as error:
                self.failed[error.code] += 1
                await asyncio.sleep(0.02)
            else:
                assert isinstance(answer, Recorded), answer
                self.acknowledged.append(call_id)

    async def reaches(self, count: int, patience_s: float = 30) -> None:
        """Waits until so many more were acknowledged."""
        wanted = len(self.acknowledged) + count
        async with asyncio.timeout(patience_s):
            while len(self.acknowledged) < wanted:
                await asyncio.sleep(0.02)

    async def is_refused(self, code: str, patience_s: float = 30) -> None:
        """Waits until calls are refused for this reason."""
        async with asyncio.timeout(patience_s):
            while self.failed[code] < CALLERS:
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        await self._queue.close()


async def fail_over(
    primary: postgres_server.Cluster, standby: postgres_server.Cluster, *, is_behind: bool = False
) -> Load:
    """Load before, during and after a failover; `is_behind`: to a standby that missed some."""
    clock = Clock()
    url = await postgres_server.new_database(primary.dsn())
    place, _, rest = url.partition(f"127.0.0.1:{primary.port}")
    both = f"{place}127.0.0.1:{primary.port},127.0.0.1:{standby.port}{rest}"
    both += "?target_session_attrs=primary"
    store = await open_store(both, now_us=clock.now_us, node_id="node")
    load = Load(store, clock)
    callers = [asyncio.create_task(load.caller()) for _ in range(CALLERS)]
    try:
        await load.reaches(500)
        if is_behind:
            await asyncio.to_thread(standby.stop)
            await load.reaches(200)
        await asyncio.to_thread(primary.stop, "immediate")
        if is_behind:
            await asyncio.to_thread(standby.start, "fsync=off")
        await asyncio.to_thread(standby.promote)
        if is_behind:
            await load.is_refused("store_rolled_back")
        else:
            await load.reaches(500)
    finally:
        load.is_over = True
        await asyncio.gather(*callers)
        await load.close()
        await store.close()
    return load


async def missing_after(standby: postgres_server.Cluster, load: Load) -> list[str]:
    """What was acknowledged and is not on the new primary; fails if its chain does not verify."""
    admin = await asyncpg.connect(standby.dsn())
    names = await admin.fetch("SELECT datname FROM pg_database WHERE datname LIKE 'aegis_%'")
    await admin.close()
    reader = await open_reader(standby.dsn(database=names[0][0]))
    try:
        lines = [line async for line in export_lines(reader, "acme")]
    finally:
        await reader.close()
    verdict = verify_lines(lines)
    assert verdict.holds, verdict
    recorded = Counter(str(orjson.loads(line)["call_id"]) for line in lines)
    assert max(recorded.values()) == 1
    return [call_id for call_id in load.acknowledged if call_id not in recorded]


@pytest.mark.serial
@pytest.mark.parametrize("number", range(3))
async def test_a14_a_failover_loses_nothing_that_was_acknowledged(number: int) -> None:
    async with pair() as (primary, standby):
        load = await fail_over(primary, standby)
        assert await missing_after(standby, load) == []
    assert load.failed, "positive control: the failover was felt"
    assert len(load.acknowledged) >= 1000


@pytest.mark.serial
async def test_a14_a_standby_that_missed_some_is_found_out() -> None:
    """The planted fault: commits that do not wait for the standby. The harness misses them; and
    the running process, which knows what it was told, puts nothing onto the shorter chain."""
    async with pair(is_synchronous=False) as (primary, standby):
        load = await fail_over(primary, standby, is_behind=True)
        missing = await missing_after(standby, load)
        assert len(missing) >= 200
        assert missing == load.acknowledged[-len(missing) :], "something was recorded after them"
