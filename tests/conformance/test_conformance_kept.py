"""Values that a store keeps for good: drawn once, the same for all, and they move along with it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import postgres_server
import pytest
from conformance_setup import OpenStore
from move_store import fill, move

from sidecar.clock import Clock
from sidecar.model import Principal
from sidecar.write_path import kept_bindings
from storage import SqlStore, open_store


async def test_c13_the_first_value_is_kept_and_found_after_opening_again(
    open_it: OpenStore,
) -> None:
    store = await open_it()
    assert await store.keep("key", "first") == "first"
    assert await store.keep("key", "second") == "first"
    assert await store.keep("other", "second") == "second"
    await store.close()
    store = await open_it()
    assert await store.keep("key", "third") == "first"


async def test_c13_of_many_that_draw_at_once_one_is_kept(store: SqlStore) -> None:
    kept = await asyncio.gather(*(store.keep("key", f"of {n}") for n in range(8)))
    assert len(set(kept)) == 1


@pytest.fixture
async def other_url(store_url: str, tmp_path: Path, postgres_dsn: str) -> str:
    """A store of the other engine that does not exist yet."""
    if store_url.startswith("sqlite"):
        return await postgres_server.new_database(postgres_dsn)
    return f"sqlite:///{tmp_path}/other.db"


async def test_c13_sessions_are_bound_as_before_where_the_store_was_moved_to(
    store_url: str, other_url: str
) -> None:
    """Also where the target had drawn a key of its own, before anything was in it."""
    ana, clock = Principal("acme", "ana"), Clock()

    async def bound(url: str) -> str:
        store = await open_store(url, now_us=clock.now_us, node_id="node")
        bindings = await kept_bindings(clock, store)
        await store.close()
        return bindings.session_out(ana, "files", "s-1")

    await fill(store_url, 10, 1)
    before = await bound(store_url)
    assert await bound(other_url) != before, "positive control: keys are drawn"
    done = await asyncio.to_thread(move, store_url, other_url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert await bound(other_url) == before
