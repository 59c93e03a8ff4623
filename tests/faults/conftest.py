"""A PostgreSQL server of its own for a module of tests, with an empty database for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import asyncpg
import postgres_server
import pytest
import pytest_asyncio


@pytest.fixture(scope="module")
def cluster() -> Iterator[postgres_server.Cluster]:
    with postgres_server.new_cluster() as cluster:
        cluster.initialise()
        cluster.start("fsync=off")
        yield cluster


@pytest_asyncio.fixture
async def url(cluster: postgres_server.Cluster) -> str:
    return await postgres_server.new_database(cluster.dsn())


@pytest_asyncio.fixture
async def admin(cluster: postgres_server.Cluster, url: str) -> AsyncIterator[asyncpg.Connection]:
    """A superuser in the test's database: no row security stands in its way."""
    connection = await asyncpg.connect(cluster.dsn(database=url.rpartition("/")[2]))
    yield connection
    await connection.close()
