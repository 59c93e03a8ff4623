"""A PostgreSQL and its standby, for the tests of what a failover does.

Knows: how two clusters are made a pair. Must not know: who uses them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg
import postgres_server


@contextlib.asynccontextmanager
async def pair(
    *, is_synchronous: bool = True
) -> AsyncIterator[tuple[postgres_server.Cluster, postgres_server.Cluster]]:
    """A primary and its standby, both running; a commit waits for the standby, or does not."""
    with postgres_server.new_cluster() as primary, postgres_server.new_cluster() as standby:
        primary.initialise()
        primary.start("wal_level=replica", "fsync=off")
        standby.copy_of(primary)
        standby.start("fsync=off")
        if is_synchronous:
            await wait_for_standby(primary)
        yield primary, standby


async def wait_for_standby(primary: postgres_server.Cluster) -> None:
    """From now on a commit on the primary waits until its standby has it."""
    admin = await asyncpg.connect(primary.dsn())
    try:
        await admin.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        await admin.execute("SELECT pg_reload_conf()")
        async with asyncio.timeout(20):
            while not await admin.fetchval(
                "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
            ):
                await asyncio.sleep(0.05)
    finally:
        await admin.close()


def named_together(url: str, *clusters: postgres_server.Cluster) -> str:
    """The URL of a database on the first, naming all of them."""
    place, _, rest = url.partition(f"127.0.0.1:{clusters[0].port}")
    return place + ",".join(f"127.0.0.1:{one.port}" for one in clusters) + rest
