"""A role that may do no more than make functions in a schema of the search path, as everybody may
in a database of PostgreSQL 13 or 14, gets nothing of it run by the sidecar; the operator is told.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio
from failover import Load
from postgres_traps import CAUGHT, leading, plant, would_run

from sidecar.clock import Clock
from storage import hints_of, open_reader, open_store
from storage.gathered import combined, gathered
from storage.statements import BadStatement, load_statements

SQL = load_statements("postgres")
#: What a function cannot hold.
_NO_QUERY = re.compile(r"SAVEPOINT|RELEASE|ROLLBACK|CREATE|DROP|SET|RESET")


def named_functions() -> set[str]:
    """Every function that a statement names without saying whose it is."""
    texts = [*SQL.values(), "unnest("]
    return {one for text in texts for one in re.findall(r"(?<![.\w])([a-z_]+)\(", text)}


@pytest_asyncio.fixture
async def low(url: str, admin: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """Somebody else in the database, who may connect and make things, and no more."""
    role = f"{url.rpartition('/')[2]}_low"
    await admin.execute(f"CREATE ROLE {role} LOGIN")
    await admin.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
    place = url.partition("@")[2]
    connection = await asyncpg.connect(f"postgresql://{role}@{place}")
    yield connection
    await connection.close()


async def test_g_what_others_planted_is_run_by_no_statement(
    url: str, admin: asyncpg.Connection, low: asyncpg.Connection
) -> None:
    await plant(low, named_functions())
    assert await would_run(admin, "SELECT 1::numeric * 1", []), "positive control"
    with pytest.raises(asyncpg.RaiseError, match=CAUGHT):
        # The driver asks for types it does not know, and would run the trap for us.
        await admin.fetch("SELECT $1::bigint[]", [1])  # positive control
    heard: list[str] = []
    store = await open_store(url, now_us=Clock().now_us, node_id="node")  # the first start
    reader = await open_reader(url)
    hints = hints_of(url, heard.append)
    assert hints is not None
    listening = asyncio.create_task(hints.run())
    try:
        await store.renew_lease("boot", 30)
        load = Load(store, Clock())
        callers = [asyncio.create_task(load.caller()) for _ in range(4)]
        await asyncio.sleep(0.5)
        load.is_over = True
        await asyncio.gather(*callers)
        await load.queue.close()
        assert not load.failed and len(load.acknowledged) > 10
        assert await store.dead_nodes() == []
        assert await reader.receipts_of_call("acme", load.acknowledged[0])
        await hints.give("word")
        async with asyncio.timeout(5):
            while "word" not in heard:
                await asyncio.sleep(0.01)
    finally:
        listening.cancel()
        await asyncio.wait({listening})
        await reader.close()
        await store.close()
    assert await leading(admin) == [], "nothing that the first start made"


async def test_g_no_statement_leaves_open_whose_function_or_operator_is_meant(
    url: str, admin: asyncpg.Connection, low: asyncpg.Connection
) -> None:
    await (await open_store(url, now_us=Clock().now_us, node_id="node")).close()
    types = {name: await types_of(admin, text) for name, text in SQL.items() if is_query(text)}
    await plant(low, named_functions())
    caught: dict[str, list[str]] = {}
    for name, kinds in types.items():
        if found := await would_run(admin, SQL[name], kinds):
            caught[name] = found
        if (many := as_many(SQL[name], kinds)) and (
            found := await would_run(admin, many, [f"{kind}[]" for kind in kinds])
        ):
            caught[f"{name}, many"] = found
    assert caught == {}
    assert len(types) > 150, "positive control"


def is_query(text: str) -> bool:
    return not _NO_QUERY.match(text)


async def types_of(admin: asyncpg.Connection, text: str) -> list[str]:
    prepared = await admin.prepare(text)
    return [one.name for one in prepared.get_parameters()]


def as_many(text: str, kinds: list[str]) -> str:
    """The same for many rows, where a batch takes it so; "" for what has no rows."""
    if "RETURNING" in text:
        return ""
    try:
        return combined((gathered(text, kinds),))
    except BadStatement:
        return ""


async def test_g_the_operator_is_told_of_a_schema_that_is_open_to_everybody(
    url: str, admin: asyncpg.Connection, low: asyncpg.Connection
) -> None:
    async def said() -> list[str]:
        store = await open_store(url, now_us=Clock().now_us, node_id="node")
        warnings = store.facts().warnings
        await store.close()
        return [one for one in warnings if "REVOKE CREATE" in one]

    (one,) = await said()
    assert one.endswith("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    await admin.execute(one.rpartition(": ")[2])
    assert await said() == []
