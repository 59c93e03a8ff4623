"""A14, A16: what befalls a batch on its way to the server and back. Whoever waited is told the
truth or refused, what is unknown is looked up, and nothing is recorded twice.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator

import asyncpg
import postgres_server
import pytest
from failover import Load
from postgres_pair import named_together, pair
from postgres_proxy import Cut, Proxy, proxy, through

from sidecar.clock import Clock
from sidecar.ledger.export import export_lines
from sidecar.ledger.verify import verify_lines
from storage import SqlStore, open_store
from storage.errors import (
    CommitUnknown,
    QueueTimeout,
    StoreBusy,
    StoreFull,
    StoreReadOnly,
)
from storage.records import Recorded, Stale

#: What asyncpg sends at the end of a transaction of several steps.
COMMIT = b"COMMIT;"


@pytest.fixture
def carrier(cluster: postgres_server.Cluster) -> Iterator[Proxy]:
    with proxy(cluster.port) as carrier:
        yield carrier


async def opened(url: str) -> SqlStore:
    return await open_store(url, now_us=Clock().now_us, node_id="node")


async def chain_of(store: SqlStore) -> list[str]:
    """The calls of the one chain there is, which must verify."""
    lines = [line async for line in export_lines(store, "acme")]
    assert verify_lines(lines).holds
    return [row.call_id or "" for row in await store.receipts("acme", 0, 1000)]


@pytest.mark.parametrize("path", ["in one statement", "step by step"])
@pytest.mark.parametrize("cut", Cut)
async def test_a14_a_connection_that_is_lost_around_the_commit(
    url: str, cluster: postgres_server.Cluster, carrier: Proxy, cut: Cut, path: str
) -> None:
    """Cut before the server heard of it, or after it committed and before it could say so."""
    store = await opened(through(url, cluster.port, carrier))
    load = Load(store, Clock())
    assert isinstance(await load.queue.submit(load.entry("before")), Recorded)
    entry, mark = load.entry("at-stake"), b"at-stake"
    if path == "step by step":
        mark = COMMIT
        await _recorded_step_by_step(load)
    carrier.arm(mark, cut)
    both = [load.queue.submit(entry)]
    if path == "step by step":
        both.append(load.queue.submit(load.entry("before")))  # a duplicate makes the batch odd
    results = await asyncio.gather(*both, return_exceptions=True)
    assert carrier.cuts == 1, "the cut was made"
    assert [type(one) for one in results] == [CommitUnknown] * len(both), results
    assert load.acknowledged == []
    await load.settled()
    is_there = "at-stake" in await chain_of(store)
    assert is_there == (cut is Cut.AFTER)
    assert ("at-stake" in load.unheard) == is_there, "whoever gave up is told, if it was recorded"
    lookups = load.queue.counters.lookups
    assert lookups["found"] >= is_there and lookups["missing"] >= (not is_there), lookups
    # The queue goes on by itself, on a connection of its own.
    assert isinstance(await load.queue.submit(load.entry("after")), Recorded)
    calls = await chain_of(store)
    assert calls.count("at-stake") == is_there
    assert len(calls) == len(set(calls))
    await load.queue.close()
    await store.close()


async def _recorded_step_by_step(load: Load) -> None:
    """Positive control: such a batch goes through when nothing is cut."""
    answers = await asyncio.gather(
        load.queue.submit(load.entry("control")), load.queue.submit(load.entry("before"))
    )
    assert isinstance(answers[0], Recorded) and not isinstance(answers[1], Recorded)


async def test_a14_a_session_that_is_ended_in_the_middle(
    url: str, admin: asyncpg.Connection
) -> None:
    store = await opened(url)
    load = Load(store, Clock())
    assert isinstance(await load.queue.submit(load.entry("before")), Recorded)
    async with admin.transaction():
        await admin.execute("SELECT 1 FROM chain_head FOR UPDATE")
        waiting = asyncio.create_task(load.queue.submit(load.entry("at-stake")))
        await ended_when_it_waits(admin, "pg_terminate_backend")
    with pytest.raises(CommitUnknown):
        await waiting
    await load.settled()
    assert load.queue.counters.lookups == {"found": 0, "missing": 1, "unknown": 0}
    assert isinstance(await load.queue.submit(load.entry("after")), Recorded)
    assert await chain_of(store) == ["before", "after"]
    assert store.facts().reopened_total == 1 and store.facts().failovers_total == 0
    await load.queue.close()
    await store.close()


async def ended_when_it_waits(admin: asyncpg.Connection, function: str) -> None:
    """Ends, or cancels, the writer as soon as it waits for a lock or for a standby."""
    async with asyncio.timeout(10):
        while not await admin.fetchval(
            f"SELECT bool_or({function}(pid)) FROM pg_stat_activity "
            "WHERE application_name = 'aegis-sidecar writer' AND wait_event_type IN ('Lock', 'IPC')"
            " AND (wait_event_type = 'Lock' OR wait_event = 'SyncRep')"
        ):
            await asyncio.sleep(0.02)


async def test_a16_a_rival_that_holds_the_head_is_waited_for_no_longer_than_a_deadline(
    url: str, admin: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.postgres_connect.LOCK_WAIT_S", 0.3)
    store = await opened(url)
    load = Load(store, Clock())
    assert isinstance(await load.queue.submit(load.entry("before")), Recorded)
    async with admin.transaction():  # and then idle in it
        await admin.execute("SELECT 1 FROM chain_head FOR UPDATE")
        started = time.monotonic()
        with pytest.raises(StoreBusy) as caught:
            await load.queue.submit(load.entry("refused"))
        assert 0.2 < time.monotonic() - started < 2
        assert "55P03" in str(caught.value) and caught.value.code == "store_busy"
        assert "who holds a lock on chain_head" in caught.value.next_step
    assert isinstance(await load.queue.submit(load.entry("after")), Recorded)
    assert await chain_of(store) == ["before", "after"]
    assert store.facts().reopened_total == 0, "a busy server is not distrusted"
    await load.queue.close()
    await store.close()


async def test_a16_a_node_that_stands_still_in_a_batch_holds_nobody_up_for_long(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was stopped, or whose machine is gone, between two of its statements."""
    from storage.postgres import _open
    from storage.postgres_connect import Servers, writer_settings
    from storage.statements import load_statements

    monkeypatch.setattr("storage.postgres_connect.IDLE_IN_BATCH_S", 0.5)
    store = await opened(url)
    load = Load(store, Clock())
    assert isinstance(await load.queue.submit(load.entry("before")), Recorded)
    still = await Servers(url, load_statements("postgres"), _open).connect(writer_settings())
    await still.execute("SELECT set_config('aegis.tenants', '*', false)")
    await still.execute("BEGIN; SELECT 1 FROM chain_head FOR UPDATE")
    started = time.monotonic()
    assert isinstance(await load.queue.submit(load.entry("after")), Recorded)
    assert 0.3 < time.monotonic() - started < 3, "it was waited for, and then ended by the server"
    still.terminate()
    await load.queue.close()
    await store.close()


async def test_a15_a_commit_that_stopped_waiting_for_its_standby_is_not_acknowledged() -> None:
    """The server says that it committed, and warns; a failover now would lose the record."""
    async with pair() as (primary, standby):
        url = await postgres_server.new_database(primary.dsn())
        name = url.rpartition("/")[2]
        admin = await asyncpg.connect(primary.dsn(database=name))
        store = await opened(named_together(url, primary))
        load = Load(store, Clock())
        assert isinstance(await load.queue.submit(load.entry("before")), Recorded)
        # The hazard is real: anybody else's commit is answered as if all were well.
        plain = await asyncpg.connect(
            url, server_settings={"application_name": "aegis-sidecar writer"}
        )
        await plain.execute("CREATE TABLE cats (name TEXT)")
        await asyncio.to_thread(standby.stop, "immediate")
        inserted = asyncio.create_task(plain.execute("INSERT INTO cats VALUES ('tom')"))
        await ended_when_it_waits(admin, "pg_cancel_backend")
        assert await inserted == "INSERT 0 1"
        await plain.close()

        waiting = asyncio.create_task(load.queue.submit(load.entry("at-stake")))
        await ended_when_it_waits(admin, "pg_cancel_backend")
        with pytest.raises(CommitUnknown, match="its standby may lack it"):
            await waiting
        await asyncio.to_thread(standby.start, "fsync=off")
        await load.settled()
        assert load.unheard == ["at-stake"], "it was recorded, and never acknowledged"
        assert await chain_of(store) == ["before", "at-stake"]
        await admin.close()
        await load.queue.close()
        await store.close()


async def test_a16_a_statement_timeout_of_the_server_refuses_and_records_nothing(
    url: str, admin: asyncpg.Connection
) -> None:
    role = url.rpartition("/")[2]
    await admin.execute(f"ALTER ROLE {role} SET statement_timeout = '300ms'")
    store = await opened(url)
    load = Load(store, Clock())
    assert isinstance(await load.queue.submit(load.entry("before")), Recorded)
    async with admin.transaction():
        await admin.execute("SELECT 1 FROM chain_head FOR UPDATE")
        with pytest.raises(StoreBusy) as caught:
            await load.queue.submit(load.entry("refused"))
        assert "57014" in str(caught.value)
        assert "what makes it slow" in caught.value.next_step
    assert isinstance(await load.queue.submit(load.entry("after")), Recorded)
    assert await chain_of(store) == ["before", "after"]
    await load.queue.close()
    await store.close()


async def test_a15_a_primary_that_turns_read_only_is_left_for_the_promoted_standby() -> None:
    """Demoted without a kill: its sessions live on, and answer 25006 to every write."""
    async with pair() as (primary, standby):
        url = await postgres_server.new_database(primary.dsn())
        admin = await asyncpg.connect(primary.dsn())
        store = await opened(named_together(url, primary, standby))
        load = Load(store, Clock())
        assert isinstance(await load.queue.submit(load.entry("before")), Recorded)
        assert await chain_of(store) == ["before"]  # a reader of the old primary is in the pool
        await admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await admin.execute("SELECT pg_reload_conf()")
        await admin.close()
        await asyncio.sleep(0.3)
        with pytest.raises(StoreReadOnly) as caught:
            await load.queue.submit(load.entry("refused"))
        assert "25006" in str(caught.value) or "read-only" in str(caught.value)
        assert "found again after a failover" in caught.value.next_step
        assert not store.facts().is_writable
        await asyncio.to_thread(standby.promote)
        started = time.monotonic()
        while True:
            try:
                await load.queue.submit(load.entry("after"))
                break
            except StoreReadOnly:
                await asyncio.sleep(0.05)
        assert time.monotonic() - started < 5
        assert await chain_of(store) == ["before", "after"], "readers went along"
        facts = store.facts()
        assert (facts.failovers_total, facts.is_writable) == (1, True)
        await load.queue.close()
        await store.close()


@pytest.mark.parametrize("is_real", [False, True], ids=["raised", "real"])
async def test_a3_a_full_disk_on_the_server_refuses_and_is_over_when_there_is_space(
    cluster: postgres_server.Cluster, url: str, admin: asyncpg.Connection, is_real: bool
) -> None:
    """By a trigger everywhere; by a small file system of its own where one may be mounted."""
    disk = cluster.folder / "disk"
    if is_real:
        disk.mkdir()
        options = f"size=24m,uid={cluster.as_user.get('user', 0)},mode=700"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)])
        if done.returncode:
            pytest.skip("no file system may be mounted here; the raised error was tested")
    try:
        if is_real:
            await admin.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
            await admin.execute(f"GRANT CREATE ON TABLESPACE small TO {url.rpartition('/')[2]}")
            url += "?default_tablespace=small"
        await _fill_and_free(url, admin, disk if is_real else None)
    finally:
        if is_real:
            # Not dropped: it goes with the cluster, and must not be in use when it is taken away.
            subprocess.run(["umount", "-l", str(disk)], check=True)


async def _fill_and_free(url: str, admin: asyncpg.Connection, disk: object) -> None:
    store = await opened(url)
    load = Load(store, Clock())
    assert isinstance(await load.queue.submit(load.entry("before")), Recorded)
    if disk is None:
        await admin.execute(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END$$"
        )
        await admin.execute(
            "CREATE TRIGGER full_disk BEFORE INSERT ON receipts "
            "FOR EACH ROW EXECUTE FUNCTION full_disk()"
        )
    else:
        await admin.execute("CREATE TABLE ballast (b BYTEA) TABLESPACE small")
        await admin.execute("ALTER TABLE ballast ALTER b SET STORAGE EXTERNAL")
        with pytest.raises(asyncpg.DiskFullError):
            while True:
                await admin.execute("INSERT INTO ballast VALUES (repeat('x', 60000)::bytea)")
    recorded = ["before"]
    with pytest.raises(StoreFull) as caught:
        for number in range(2000):  # a page or two may be left
            await load.queue.submit(load.entry(f"filling-{number}"))
            recorded.append(f"filling-{number}")
    assert "53100" in str(caught.value) and caught.value.code == "store_full"
    assert "on the server" in caught.value.next_step
    assert store.facts().reopened_total == 0, "the server itself is well"
    put_right = "DROP TRIGGER full_disk ON receipts" if disk is None else "DROP TABLE ballast"
    await admin.execute(put_right)
    assert isinstance(await load.queue.submit(load.entry("after")), Recorded)
    assert await chain_of(store) == [*recorded, "after"]
    await load.queue.close()
    await store.close()


async def test_a16_a_caller_waits_no_longer_than_the_queue_says(
    url: str, admin: asyncpg.Connection
) -> None:
    store = await opened(url)
    load = Load(store, Clock(), wait_s=0.4)
    assert isinstance(await load.queue.submit(load.entry("before")), Recorded)
    async with admin.transaction():
        await admin.execute("SELECT 1 FROM chain_head FOR UPDATE")
        started = time.monotonic()
        with pytest.raises(QueueTimeout):
            await load.queue.submit(load.entry("late"))
        assert time.monotonic() - started < 1
    assert isinstance(await load.queue.submit(load.entry("after")), Recorded)
    # Recorded when the lock was given back, and told to whoever sees to such calls.
    assert await chain_of(store) == ["before", "late", "after"]
    assert load.unheard == ["late"]
    await load.queue.close()
    await store.close()


async def test_a17_an_epoch_raised_by_another_node_meets_the_very_next_decision(url: str) -> None:
    """Nothing waits for a notification: the guard stands in the batch's own statement."""
    here, there = await opened(url), await opened(url)
    load = Load(here, Clock())
    first = load.entry("before")
    first.epoch = 0
    assert isinstance(await load.queue.submit(first), Recorded), "positive control"
    assert await there.raise_epoch("acme") == 1
    late = load.entry("stale")
    late.epoch = 0
    answer = await load.queue.submit(late)
    assert isinstance(answer, Stale) and answer.epoch == 1
    again = load.entry("again")
    again.epoch = answer.epoch
    assert isinstance(await load.queue.submit(again), Recorded)
    assert await chain_of(here) == ["before", "again"]
    await load.queue.close()
    await here.close()
    await there.close()
