"""The stores every conformance test runs against. A new back end adds one name here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import postgres_server
import pytest
import pytest_asyncio
from conformance_setup import OpenStore

from storage import SqlStore, open_store


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """A real PostgreSQL, started for this run. None to be had is an error, not a skip."""
    with postgres_server.server() as dsn:
        yield dsn


@pytest_asyncio.fixture(params=["sqlite", "postgres"])
async def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store that does not exist yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    return await postgres_server.new_database(request.getfixturevalue("postgres_dsn"))


@pytest_asyncio.fixture
async def open_it(store_url: str) -> AsyncIterator[OpenStore]:
    """Opens the test's store, again and again if wanted; all are closed at the end."""
    opened: list[SqlStore] = []

    async def open_again() -> SqlStore:
        store = await open_store(store_url, now_us=lambda: 1_790_000_000_000_000, node_id="node")
        opened.append(store)
        return store

    yield open_again
    for store in opened:
        await store.close()


@pytest_asyncio.fixture
async def store(open_it: OpenStore) -> SqlStore:
    """An open, empty store."""
    return await open_it()
