"""Every server that cannot be used: a stable code, the reason, and what the operator can do.

Each with its positive control: the same call against the same server, put right.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import postgres_server
import pytest
import pytest_asyncio
from fake_postgres import old_server
from postgres_proxy import proxy

from storage import SqlStore, open_reader, open_store
from storage.errors import (
    ReadTimeout,
    StoreBusy,
    StoreError,
    StoreReadOnly,
    StoreUnavailable,
    UnsupportedStore,
)
from storage.postgres import READERS, PostgresReaders
from storage.statements import load_statements

SQL = load_statements("postgres")


@pytest.fixture(scope="module")
def cluster() -> Iterator[postgres_server.Cluster]:
    """Passwords are asked for, except of its superuser."""
    with postgres_server.new_cluster() as cluster:
        cluster.initialise()
        cluster.admit(
            "host all postgres 127.0.0.1/32 trust",
            "host replication postgres 127.0.0.1/32 trust",
            "host all all 127.0.0.1/32 scram-sha-256",
        )
        cluster.start("wal_level=replica", "fsync=off")
        yield cluster


@pytest.fixture(scope="module")
def standby(cluster: postgres_server.Cluster) -> Iterator[postgres_server.Cluster]:
    with postgres_server.new_cluster() as standby:
        standby.copy_of(cluster)
        standby.start("fsync=off")
        yield standby


@pytest_asyncio.fixture
async def admin(cluster: postgres_server.Cluster) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(cluster.dsn())
    yield connection
    await connection.close()


async def opened(url: str) -> SqlStore:
    return await open_store(url, now_us=lambda: 1, node_id="node")


async def refused(url: str, kind: type[StoreError], reason: str, step: str) -> None:
    """Opening fails with this code, reason and next step, for the writer and for a reader."""
    for open_it in (opened, open_reader):
        with pytest.raises(StoreError) as caught:
            await open_it(url)
        error = caught.value
        assert type(error) is kind, error
        assert error.code == kind.code
        assert reason in str(error), error
        assert step in error.next_step, error.next_step
        assert postgres_server.PASSWORD not in f"{error!r} {error.next_step}"


async def works(url: str) -> None:
    store = await opened(url)
    await store.probe()
    assert await store.tenants() == []
    await store.close()


async def test_a_server_that_cannot_be_reached(url: str, cluster: postgres_server.Cluster) -> None:
    nobody = url.replace(f":{cluster.port}/", ":1/")
    await refused(nobody, StoreUnavailable, "127.0.0.1:1: ", "Look whether the server runs")
    unknown = url.replace("127.0.0.1", "nowhere.invalid") + "?sslmode=require"
    await refused(unknown, StoreUnavailable, "nowhere.invalid", "Look whether the server runs")
    await works(url)


@pytest.mark.parametrize(("number", "is_fine"), [(90624, False), (120022, False), (130000, True)])
async def test_a_server_of_an_old_version(number: int, is_fine: bool) -> None:
    async with old_server(number) as port:
        url = f"postgresql://aegis@127.0.0.1:{port}/aegis"
        if is_fine:
            # It gets past the version, to statements that this server cannot answer.
            with pytest.raises(StoreError) as caught:
                await asyncio.wait_for(opened(url), 5)
            assert "too old" not in str(caught.value)
        else:
            reason = f"PostgreSQL {number // 10000}.{number % 10000} is too old: 13 or later"
            await refused(url, UnsupportedStore, reason, "Upgrade the server")


async def test_a_wrong_password(url: str) -> None:
    wrong = url.replace(postgres_server.PASSWORD, "not-it")
    step = "Correct the user or the password"
    await refused(wrong, UnsupportedStore, "28P01", step)
    await refused(url.replace(f":{postgres_server.PASSWORD}", ""), UnsupportedStore, "", "Correct")
    await works(url)


async def test_a_password_that_is_changed_while_a_sidecar_runs(
    url: str, cluster: postgres_server.Cluster, tmp_path: Path
) -> None:
    role = url.rpartition("/")[2]
    passwords = tmp_path / "pgpass"

    def say(password: str) -> None:
        passwords.write_text(f"127.0.0.1:{cluster.port}:*:{role}:{password}\n")
        passwords.chmod(0o600)

    say(postgres_server.PASSWORD)
    store = await opened(url.replace(f":{postgres_server.PASSWORD}", "") + f"?passfile={passwords}")
    await store.probe()
    admin = await asyncpg.connect(cluster.dsn())
    await admin.execute(f"ALTER ROLE {role} PASSWORD 'another-one'")
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", role
    )
    await admin.close()
    with pytest.raises(StoreError) as caught:
        while True:  # it may not have heard yet that its connection is gone
            await store.probe()
    if not isinstance(caught.value, UnsupportedStore):
        with pytest.raises(UnsupportedStore, match="28P01") as caught:
            await store.probe()
    assert "?passfile=" in caught.value.next_step
    say("another-one")
    await store.probe()
    await store.close()


async def test_a_missing_database(url: str) -> None:
    missing = f"{url.rpartition('/')[0]}/nothing_here"
    await refused(missing, UnsupportedStore, '3D000 database "nothing_here"', "Create the database")
    await works(url)


async def test_a_role_that_may_not_make_tables(url: str, admin: asyncpg.Connection) -> None:
    role = url.rpartition("/")[2]
    await admin.execute(f"ALTER DATABASE {role} OWNER TO postgres")
    owner = await asyncpg.connect(f"{url.partition('://')[0]}://postgres@{url.partition('@')[2]}")
    try:
        await owner.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        with pytest.raises(StoreReadOnly) as caught:
            await opened(url)
        assert "42501 permission denied for schema public" in str(caught.value)
        assert "own its database" in caught.value.next_step
        await owner.execute(f"GRANT CREATE, USAGE ON SCHEMA public TO {role}")
    finally:
        await owner.close()
    await works(url)


async def test_a_parameter_the_server_does_not_know(url: str) -> None:
    step = "Take the parameter out of the URL"
    await refused(f"{url}?sslmod=verify-full", UnsupportedStore, "sslmod", step)
    await refused(f"{url}?sslmode=verify", UnsupportedStore, "sslmode=verify is none of", "sslmode")
    await works(f"{url}?search_path=public")


async def test_a_standby_named_alone(url: str, cluster: postgres_server.Cluster,
                                     standby: postgres_server.Cluster) -> None:  # fmt: skip
    await works(url)
    alone = url.replace(f":{cluster.port}/", f":{standby.port}/")
    await caught_up(alone)
    reason = f"127.0.0.1:{standby.port}: the server is a standby"
    await refused(alone, StoreReadOnly, reason, "Name the primary in `store`, or all servers")


async def test_a_primary_that_was_made_read_only(url: str, admin: asyncpg.Connection) -> None:
    await works(url)
    name = url.rpartition("/")[2]
    await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await refused(url, StoreReadOnly, "the server is read-only", "Name the primary")
    await refused(url, StoreReadOnly, "read-only", "somebody set default_transaction_read_only")
    await admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    await works(url)


async def test_a16_of_several_servers_the_primary_is_found_and_read_from(
    url: str, cluster: postgres_server.Cluster, standby: postgres_server.Cluster
) -> None:
    await works(url)
    await caught_up(url.replace(f":{cluster.port}/", f":{standby.port}/"))
    both = url.replace(
        f"127.0.0.1:{cluster.port}", f"127.0.0.1:{standby.port},127.0.0.1:{cluster.port}"
    )
    await works(both)
    readers = PostgresReaders(both, SQL)
    try:
        assert await readers.fetch("SELECT pg_is_in_recovery()", tenant="acme") == [(False,)]
        with pytest.raises(StoreReadOnly):
            await readers.fetch("CREATE TABLE cats (name TEXT)", tenant="acme")
        with pytest.raises(StoreReadOnly):  # nor later, when the connection was given back
            await readers.fetch("CREATE TABLE cats (name TEXT)", tenant="acme")
    finally:
        await readers.close()


async def test_a15_a_server_that_answers_nothing_does_not_use_up_the_time_of_the_next(
    url: str, cluster: postgres_server.Cluster
) -> None:
    """As a machine that lost its power: no refusal comes, only silence."""
    with proxy(cluster.port) as silent:
        silent.is_deaf = True
        both = url.replace(
            f"127.0.0.1:{cluster.port}", f"127.0.0.1:{silent.port},127.0.0.1:{cluster.port}"
        )
        started = time.monotonic()
        store = await opened(both)
        took_s = time.monotonic() - started
        await store.probe()
        again = time.monotonic()
        assert await store.tenants() == []  # a reader goes where the writer is
        await store.close()
    assert 1.5 < took_s < 5, "the silent one was asked, and given up"
    assert time.monotonic() - again < 1


async def test_a16_connections_of_the_server_that_are_used_up(
    url: str, admin: asyncpg.Connection
) -> None:
    role = url.rpartition("/")[2]
    await works(url)
    await admin.execute(f"ALTER ROLE {role} CONNECTION LIMIT 1")
    held = await asyncpg.connect(url)
    await refused(url, StoreUnavailable, "53300", "Raise max_connections, or the role's")
    await held.close()
    await admin.execute(f"ALTER ROLE {role} CONNECTION LIMIT -1")
    await works(url)


async def test_a16_readers_that_are_all_in_use(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.postgres.CONNECT_S", 0.3)
    await works(url)
    readers = PostgresReaders(url, SQL)
    slow = [
        asyncio.create_task(readers.fetch("SELECT pg_sleep(1.2)", tenant="acme"))
        for _ in range(READERS)
    ]
    await asyncio.sleep(0.2)
    started = time.monotonic()
    with pytest.raises(StoreBusy) as caught:
        await readers.fetch("SELECT 1", tenant="acme")
    assert time.monotonic() - started < 1
    assert str(caught.value) == "all 4 readers are in use"
    await asyncio.gather(*slow)
    assert await readers.fetch("SELECT 1", tenant="acme") == [(1,)]
    await readers.close()


async def test_a16_a_read_that_takes_too_long_is_cut_off_by_the_server(
    url: str, admin: asyncpg.Connection
) -> None:
    readers = PostgresReaders(url, SQL, limit_s=0.3)
    with pytest.raises(ReadTimeout) as caught:
        await readers.fetch("SELECT pg_sleep(20)", tenant="acme")
    assert "57014" in str(caught.value)
    assert "what makes it slow" in caught.value.next_step
    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(20)%' "
    assert await admin.fetchval(running + "AND state = 'active'") == 0
    assert await readers.fetch("SELECT pg_sleep(0.1)::text", tenant="acme") == [("",)]
    await readers.close()


async def caught_up(url: str) -> None:
    """Waits until a standby knows the role and the database of a URL."""
    until = time.monotonic() + 10
    while True:
        try:
            await (await asyncpg.connect(url)).close()
        except asyncpg.PostgresError:
            assert time.monotonic() < until
            await asyncio.sleep(0.05)
        else:
            return
