"""What was told last of the configuration stands beside the chains, on any engine, moved or not."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import postgres_server
import pytest
from move_store import fill, move

from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from sidecar.ledger.config_record import ConfigRecord
from sidecar.soc.detection import Detections
from sidecar.soc.engine import Engine
from storage import SqlStore, open_store
from storage.records import Answer, Entry
from storage.standing import AuditRow

TENANT = "tenant-0"


class AtOnce:
    """Records one entry by itself."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def submit(self, entry: Entry) -> Answer:
        return (await self._store.record([entry], seal))[0]


async def started(url: str, *people: str) -> list[AuditRow]:
    """A sidecar starts on it with these people; what is on record of that then, oldest first."""
    clock = Clock()
    store = await open_store(url, now_us=clock.now_us, node_id="node")

    def told_of(tenant: str, salt: bytes) -> dict[str, Any]:
        return {"default": "deny", "people": {name: {"key": salt.hex()} for name in people}}

    try:
        await ConfigRecord(
            [TENANT], store, AtOnce(store), clock, node="node", told_of=told_of
        ).loaded()
        # Watching goes by its own rows alone.
        engine = Engine(Detections((), "none"), TENANT)
        engine.remember(await store.watch_memories(TENANT, ("", ""), 99))
        assert engine.changed_memories() == ()
        return (await store.audit_events(TENANT, 2**62, 99, action="config.load"))[::-1]
    finally:
        await store.close()


@pytest.fixture
async def other_url(store_url: str, tmp_path: Path, postgres_dsn: str) -> str:
    """A store of the other engine that does not exist yet."""
    if store_url.startswith("sqlite"):
        return await postgres_server.new_database(postgres_dsn)
    return f"sqlite:///{tmp_path}/other.db"


async def moved(source: str, target: str) -> None:
    done = await asyncio.to_thread(move, source, target)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_g10_a_change_is_told_once_over_restarts(store_url: str) -> None:
    assert await started(store_url, "ana") == await started(store_url, "ana") == []
    (row,) = await started(store_url, "ana", "bob")
    assert row.reason == "people added: bob"
    assert await started(store_url, "ana", "bob") == [row]


async def test_g10_what_a_store_began_with_moves_along(store_url: str, other_url: str) -> None:
    """Also to a store on which a sidecar had started before anything was in it."""
    await fill(store_url, 10, 1)
    assert await started(store_url, "ana") == await started(other_url, "eve") == []
    await moved(store_url, other_url)
    assert await started(other_url, "ana") == []
    (row,) = await started(other_url, "eve")
    assert row.reason == "people added: eve; people removed: ana"


async def test_g10_what_was_told_last_moves_along(store_url: str, other_url: str) -> None:
    await fill(store_url, 10, 1)
    await started(store_url, "ana")
    before = await started(store_url, "bob")
    assert len(before) == 1
    await moved(store_url, other_url)
    assert await started(other_url, "bob") == before
    assert [
        sorted(json.loads(row.after_state)["people"]) for row in await started(other_url, "ana")
    ] == [["bob"], ["ana"]]
