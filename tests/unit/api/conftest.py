"""The API over each engine: a file, and a PostgreSQL started for the run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import postgres_server
import pytest
import pytest_asyncio
from api_setup import Served, served_api


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """A real PostgreSQL. None to be had is an error, not a skip."""
    with postgres_server.server() as dsn:
        yield dsn


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """Over a file."""
    async with served_api(tmp_path) as one:
        yield one


@pytest_asyncio.fixture(params=["sqlite", "postgres"])
async def served_by_each(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Served]:
    """Over each engine in turn."""
    url = ""
    if request.param == "postgres":
        url = await postgres_server.new_database(request.getfixturevalue("postgres_dsn"))
    async with served_api(tmp_path, url) as one:
        yield one
