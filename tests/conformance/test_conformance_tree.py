"""Checkpoints and tiles in the store: kept, thinned, widened, and behind the second wall."""

from __future__ import annotations

import asyncpg
import pytest
from conformance_setup import OpenStore

from storage import SqlStore
from storage.tree import (
    ACCEPTED,
    CHECKPOINTS_KEPT,
    FORK,
    SIGNED,
    CheckpointRow,
    TileRow,
    TreeReader,
    TreeWriter,
)


def checkpoint(size: int, tenant: str = "acme", kind: str = SIGNED) -> CheckpointRow:
    return CheckpointRow(tenant, size, f"{size:064x}", kind, f"note {size}", 7)


async def test_rows_are_there_after_opening_again(open_it: OpenStore) -> None:
    store = await open_it()
    rows = [checkpoint(3), checkpoint(5), checkpoint(9, "rival"), checkpoint(6, kind=FORK)]
    await TreeWriter(store).put_checkpoints(rows)
    tile = TileRow("acme", 0, 0, 256, "ab" * 32, "hashes")
    await TreeWriter(store).put_tiles([tile, tile._replace(tile=1, width=3, root="")])
    await store.close()
    reader = TreeReader(await open_it())
    assert await reader.latest_checkpoints() == [checkpoint(5), checkpoint(9, "rival")]
    assert await reader.latest_checkpoint("acme") == checkpoint(5), "a fork is not ours"
    assert await reader.latest_checkpoint("nobody") is None
    found = await reader.checkpoints_before("acme", 6, 10)
    assert found == [checkpoint(5), checkpoint(3)]
    assert await reader.checkpoints_at("acme", 3) == [checkpoint(3)]
    assert await reader.checkpoints_at("acme", 9) == []
    assert await reader.last_tile("acme", 0) == (1, 3)
    assert await reader.last_tile("acme", 1) is None and await reader.last_tile("rival", 0) is None
    assert await reader.tile_roots("acme", 0, 0, 9) == [(0, "ab" * 32)], "whole ones only"
    assert [row.tile for row in await reader.tiles("acme", 0, 1, 9)] == [1]


async def test_f3_two_roots_of_one_size_are_both_kept(store: SqlStore) -> None:
    fork = checkpoint(5)._replace(root="ff" * 32, kind=FORK)
    writer = TreeWriter(store)
    await writer.put_checkpoints([checkpoint(5)])
    await writer.put_checkpoints([fork, checkpoint(5)._replace(note="another")])
    assert await writer.checkpoints_at("acme", 5) == [checkpoint(5), fork], "the first note stays"
    given_up = fork._replace(kind=ACCEPTED, note="with more")
    await writer.set_checkpoint(given_up)
    assert await writer.checkpoints_at("acme", 5) == [checkpoint(5), given_up]


async def test_old_signed_heads_go_and_forks_stay(store: SqlStore) -> None:
    writer = TreeWriter(store)
    await writer.put_checkpoints([checkpoint(1, kind=FORK), checkpoint(1, "rival")])
    many = [checkpoint(size) for size in range(2, CHECKPOINTS_KEPT + 12)]
    await writer.put_checkpoints(many)
    left = await writer.checkpoints_before("acme", 10**6, 10**6)
    assert left[-1] == checkpoint(1, kind=FORK)
    assert left[:-1] == many[: -CHECKPOINTS_KEPT - 1 : -1]
    assert await writer.latest_checkpoint("rival") == checkpoint(1, "rival")


async def test_a_tile_grows_and_never_shrinks(store: SqlStore) -> None:
    writer, narrow = TreeWriter(store), TileRow("acme", 0, 0, 3, "", "three")
    whole = narrow._replace(width=256, root="ab" * 32, hashes="all")
    await writer.put_tiles([narrow])
    await writer.put_tiles([whole])
    await writer.put_tiles([narrow])
    assert await writer.tiles("acme", 0, 0, 0) == [whole]


@pytest.mark.parametrize("store_url", ["postgres"], indirect=True)
@pytest.mark.parametrize("table", ["checkpoint", "tree_tile"])
async def test_g3_rows_of_another_tenant_are_behind_the_second_wall(
    open_it: OpenStore, store_url: str, table: str
) -> None:
    writer = TreeWriter(await open_it())
    await writer.put_checkpoints([checkpoint(5)])
    await writer.put_tiles([TileRow("acme", 0, 0, 3, "", "three")])
    connection = await asyncpg.connect(store_url)
    try:
        await connection.execute("SELECT set_config('aegis.tenants', 'rival', false)")
        assert await connection.fetch(f"SELECT * FROM {table}") == []
        await connection.execute("SELECT set_config('aegis.tenants', 'acme', false)")
        assert len(await connection.fetch(f"SELECT * FROM {table}")) == 1, "positive control"
    finally:
        await connection.close()
