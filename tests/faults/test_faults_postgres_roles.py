"""What a role or a database has as usual, and what an operator gets wrong beside the server: the
sidecar does not depend on it, or says what to put right. Each with its positive control.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import asyncpg
import postgres_server
import pytest
from failover import Load
from move_store import contents, fill

from sidecar.cli.chosen_store import SERVER_DUMP
from sidecar.clock import Clock
from storage import SqlStore, open_reader, open_store
from storage.errors import StoreBusy, StoreCorrupt, StoreError, StoreUnavailable, UnsupportedStore
from storage.postgres import PostgresReaders
from storage.postgres_connect import UNTIL_GONE, writer_settings
from storage.records import Recorded
from storage.statements import load_statements

SQL = load_statements("postgres")


async def opened(url: str, node: str = "node") -> SqlStore:
    return await open_store(url, now_us=Clock().now_us, node_id=node)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_that_cannot_hold_every_character_is_refused(
    url: str, admin: asyncpg.Connection, encoding: str
) -> None:
    """Else a call with the wrong letter in it would be refused, and its refusal not be recorded."""
    role = url.rpartition("/")[2]
    other = f"{role}_{encoding.lower()}"
    await admin.execute(
        f"CREATE DATABASE {other} OWNER {role} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"
    )
    for open_it in (opened, open_reader):
        with pytest.raises(UnsupportedStore) as caught:
            await open_it(f"{url.rpartition('/')[0]}/{other}")
        assert f"encoding is {encoding}, not UTF8" in str(caught.value)
        assert "ENCODING 'UTF8'" in caught.value.next_step
    await (await opened(url)).close()


async def test_a16_the_isolation_that_a_role_has_as_usual_refuses_no_call(
    url: str, admin: asyncpg.Connection
) -> None:
    """Under `repeatable read` each of two sidecars is refused what the other was faster with."""
    role = url.rpartition("/")[2]
    await admin.execute(f"ALTER ROLE {role} SET default_transaction_isolation = 'repeatable read'")
    stores = [await opened(url, node) for node in ("one", "other")]
    loads = [Load(store, Clock()) for store in stores]
    plain = await asyncpg.connect(url)
    assert await plain.fetchval("SHOW transaction_isolation") == "repeatable read", "it is in force"
    await plain.close()
    callers = [asyncio.create_task(load.caller()) for load in loads for _ in range(4)]
    await asyncio.sleep(1)
    for load in loads:
        load.is_over = True
    await asyncio.gather(*callers)
    for load, store in zip(loads, stores, strict=True):
        assert not load.failed and len(load.acknowledged) > 10
        await load.queue.close()
        await store.close()


async def test_a_lock_that_anybody_may_hold_stops_no_start_of_a_store_that_is_up_to_date(
    url: str, admin: asyncpg.Connection
) -> None:
    await admin.execute("SELECT pg_advisory_lock(4711200801)")  # what `lock_schema` takes
    with pytest.raises(StoreBusy) as caught:
        await opened(url)
    assert "advisory lock" in caught.value.next_step, "positive control: it has steps to take"
    await admin.execute("SELECT pg_advisory_unlock(4711200801)")
    await (await opened(url)).close()
    await admin.execute("SELECT pg_advisory_lock(4711200801)")
    await (await opened(url)).close()


@pytest.mark.parametrize("usual", ["remote_apply", "local", "off"])
async def test_a1_what_a_server_does_at_a_commit_as_usual_stops_nothing_and_loosens_nothing(
    url: str, admin: asyncpg.Connection, usual: str
) -> None:
    """A server whose commits are stricter by default, or laxer, was refused by whatever reads."""
    role = url.rpartition("/")[2]
    await admin.execute(f"ALTER ROLE {role} SET synchronous_commit = {usual}")
    plain = await asyncpg.connect(url)
    assert await plain.fetchval("SHOW synchronous_commit") == usual, "it is in force"
    await plain.close()
    store = await opened(url)
    reader = await open_reader(url)
    try:
        assert await store.tenants() == await reader.tenants() == []
    finally:
        await reader.close()
        await store.close()


async def test_a_role_for_which_row_security_refuses_in_place_of_leaving_out(
    url: str, admin: asyncpg.Connection
) -> None:
    role = url.rpartition("/")[2]
    await (await opened(url)).close()
    await admin.execute(f"ALTER ROLE {role} SET row_security = off")
    plain = await asyncpg.connect(url)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await plain.fetch("SELECT * FROM receipts")
    await plain.close()
    store = await opened(url)
    assert await store.tenants() == []
    await store.close()
    reader = await open_reader(url)
    assert await reader.tenants() == []
    await reader.close()


async def test_a_role_for_which_the_catalogue_quotes_every_name(
    url: str, admin: asyncpg.Connection
) -> None:
    """Else every column, index and policy is said to have been changed by hand."""
    role = url.rpartition("/")[2]
    await admin.execute(f"ALTER ROLE {role} SET quote_all_identifiers = on")
    plain = await asyncpg.connect(url)
    assert await plain.fetchval("SELECT format_type(25, NULL)") == '"text"', "it is in force"
    await plain.close()
    await (await opened(url)).close()
    await (await opened(url)).close()


async def test_a_server_gives_up_a_session_whose_client_is_gone(
    url: str, admin: asyncpg.Connection
) -> None:
    """A network that fails leaves sessions behind for two hours, until no connection is left."""
    store = await opened(url)
    session = await asyncpg.connect(url, server_settings=writer_settings())
    rows = await session.fetch(
        "SELECT name, setting FROM pg_settings WHERE name = ANY($1)", list(UNTIL_GONE)
    )
    assert dict(rows) == UNTIL_GONE
    await session.close()
    await store.close()


async def test_a_search_path_that_leads_to_no_schema(url: str, admin: asyncpg.Connection) -> None:
    role = url.rpartition("/")[2]
    await admin.execute(f"ALTER ROLE {role} SET search_path = private")
    with pytest.raises(UnsupportedStore) as caught:
        await opened(url)
    assert "3F000" in str(caught.value) and "Create the schema" in caught.value.next_step
    await admin.execute(f"CREATE SCHEMA private AUTHORIZATION {role}")
    await (await opened(url)).close()
    tables = "SELECT table_schema FROM information_schema.tables WHERE table_name = 'receipts'"
    assert await admin.fetchval(tables) == "private"


async def test_a_database_without_a_store_is_not_called_a_damaged_file(url: str) -> None:
    with pytest.raises(StoreCorrupt) as caught:
        await open_reader(url)
    assert "holds no store" in str(caught.value)
    assert "Correct the database" in caught.value.next_step
    assert "salvage" not in caught.value.next_step
    await (await opened(url)).close()
    await (await open_reader(url)).close()


@pytest.mark.parametrize(("change", "undo"), [
    ("receipts RENAME COLUMN kind TO kind_of_it", "receipts RENAME COLUMN kind_of_it TO kind"),
    ("call_facts RENAME TO facts", "facts RENAME TO call_facts"),
])  # fmt: skip
async def test_tables_that_somebody_changes_while_a_sidecar_runs(
    url: str, admin: asyncpg.Connection, change: str, undo: str
) -> None:
    store = await opened(url)
    load = Load(store, Clock())
    assert isinstance(await load.queue.submit(load.entry("first")), Recorded)
    await admin.execute(f"ALTER TABLE {change}")
    with pytest.raises(StoreUnavailable) as caught:
        await load.queue.submit(load.entry("second"))
    assert "undo it" in caught.value.next_step and "host and port" not in caught.value.next_step
    await admin.execute(f"ALTER TABLE {undo}")
    assert isinstance(await load.queue.submit(load.entry("third")), Recorded)
    await load.queue.close()
    await store.close()


async def test_rows_that_a_dropped_policy_hides_are_not_called_a_damaged_file(
    url: str, admin: asyncpg.Connection
) -> None:
    store = await opened(url)
    load = Load(store, Clock())
    assert isinstance(await load.queue.submit(load.entry("first")), Recorded)
    await admin.execute("DROP POLICY of_named_tenants ON receipts")
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1",
        url.rpartition("/")[2],
    )
    found: list[StoreError] = []
    while not any(isinstance(one, StoreCorrupt) for one in found):
        assert len(found) < 5, found
        with pytest.raises(StoreError) as caught:
            await load.queue.submit(load.entry(f"after{len(found)}"))
        found.append(caught.value)
    assert "is not the last receipt" in str(found[-1])
    assert "row security" in found[-1].next_step and "the file" not in found[-1].next_step
    await load.queue.close()
    await store.close()


async def test_a15_a_server_that_accepts_and_says_nothing_is_named_by_a_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not as readers that are all in use: nobody reads but this one."""
    monkeypatch.setattr("storage.postgres.CONNECT_S", 0.5)
    monkeypatch.setattr("storage.postgres_connect.CONNECT_S", 0.5)
    ended = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        readers = PostgresReaders(f"postgresql://aegis@127.0.0.1:{port}/aegis", SQL)
        with pytest.raises(StoreError) as caught:
            await readers.fetch("SELECT 1", tenant="acme")
        await readers.close()
        await asyncio.wait_for(ended.wait(), 5)
    assert caught.value.code == "store_unavailable", caught.value
    assert f"127.0.0.1:{port}: no answer in 0.5 s" in str(caught.value)


async def test_a_copy_made_as_advised_holds_every_row_and_another_none(
    url: str, cluster: postgres_server.Cluster, tmp_path: Path
) -> None:
    """Row security hides every row from whoever has named no tenant, and `pg_dump` is content."""
    all_tenants = "PGOPTIONS='-c aegis.tenants=*' "
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    advised = next(one for one in readme.split("```") if SERVER_DUMP in one and "psql" in one)
    dump, load, look = advised.removeprefix("sh\n").splitlines()
    assert dump.startswith(SERVER_DUMP) and SERVER_DUMP.startswith(all_tenants)

    def shell(command: str, restored: str = "") -> tuple[int, str]:
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=tmp_path, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "PATH": f"{cluster.binaries}:{os.environ['PATH']}",
                 "AEGIS_DB": url, "RESTORED_DB": restored},
        )  # fmt: skip
        return done.returncode, done.stdout

    await fill(url, 20, 2)
    before = await contents(url)
    assert shell('pg_dump --file=aegis.sql "$AEGIS_DB"')[0] == 1
    for command, is_whole in ((dump, True), (dump.removeprefix(all_tenants), False)):
        assert shell(command)[0] == 0, "either way"
        restored = await postgres_server.new_database(cluster.dsn())
        assert shell(load, restored)[0] == 0
        assert (await contents(restored) == before) == is_whole
        await (await opened(restored)).close()
        code, said = shell(look, restored)
        # Pins stand in it that no change put there; and a copy without a row is none that holds.
        assert code == 1 and ("no change tells of it" in said) == is_whole, said
        assert ("there are no receipts in it" in said) != is_whole and "NOT HOLD" not in said
        assert ("tenant 'tenant-0': receipts 1 to 20 hold" in said) == is_whole, said
