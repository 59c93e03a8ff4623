"""Signed heads and tiles of the chains' trees: what a store keeps so that proofs need no rescan.

Knows: their columns and statements; that a tenant's signed heads are few, while forks that were
found stay; that a tile is put whole, in the place of a narrower one.
Must not know: how a hash is made, what a note says, when either is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from storage.driver import Script, execute_many, execute_together, fetch
from storage.sql_store import SqlReader, SqlStore

#: Hashes of a whole tile (C2SP tlog-tiles, height 8).
TILE_WIDTH = 256
#: Signed heads that are kept of a tenant; whatever they were sent to has all of them.
CHECKPOINTS_KEPT = 256
#: The schema version since which a store keeps them.
CHECKPOINTS_SINCE = 11

SIGNED = "signed"
FORK = "fork"
ACCEPTED = "accepted"


class CheckpointRow(NamedTuple):
    """`checkpoint`: a signed note about the tree of `size` receipts; `root` is lower-case hex."""

    tenant_id: str
    size: int
    root: str
    kind: str
    note: str
    at_us: int


class TileRow(NamedTuple):
    """`tree_tile`: `width` hashes in base64; `root`, in hex, is "" until there are 256."""

    tenant_id: str
    level: int
    tile: int
    width: int
    root: str
    hashes: str


class TreeReader:
    """Reads of checkpoints and tiles; of a store that is open, or of a reader."""

    def __init__(self, reader: SqlReader) -> None:
        self._reads = reader._reads
        self._sql = reader._sql

    async def latest_checkpoints(self) -> list[CheckpointRow]:
        """Job across tenants: the last signed head of each chain that has one, by tenant."""
        rows = await self._reads.fetch(self._sql["latest_checkpoints"])
        return sorted(CheckpointRow._make(row) for row in rows)

    async def latest_checkpoint(self, tenant_id: str) -> CheckpointRow | None:
        """The last signed head of a chain."""
        sql = self._sql["latest_checkpoint"]
        rows = await self._reads.fetch(sql, tenant_id, tenant=tenant_id)
        return CheckpointRow._make(rows[0]) if rows else None

    async def signed_checkpoints(
        self, tenant_id: str, limit: int = CHECKPOINTS_KEPT
    ) -> list[CheckpointRow]:
        """The newest signed heads of a chain, the largest first."""
        sql = self._sql["signed_checkpoints"]
        rows = await self._reads.fetch(sql, tenant_id, limit, tenant=tenant_id)
        return [CheckpointRow._make(row) for row in rows]

    async def checkpoints_before(
        self, tenant_id: str, before_size: int, limit: int
    ) -> list[CheckpointRow]:
        """Checkpoints of any kind with size < before_size, the largest first."""
        sql = self._sql["checkpoints_before"]
        rows = await self._reads.fetch(sql, tenant_id, before_size, limit, tenant=tenant_id)
        return [CheckpointRow._make(row) for row in rows]

    async def checkpoints_at(self, tenant_id: str, size: int) -> list[CheckpointRow]:
        """The checkpoints of one size, of any kind."""
        sql = self._sql["checkpoints_at"]
        rows = await self._reads.fetch(sql, tenant_id, size, tenant=tenant_id)
        return sorted(CheckpointRow._make(row) for row in rows)

    async def tiles(self, tenant_id: str, level: int, first: int, last: int) -> list[TileRow]:
        """Tiles `first` to `last` of a level, as far as they are there."""
        sql = self._sql["tree_tiles"]
        rows = await self._reads.fetch(sql, tenant_id, level, first, last, tenant=tenant_id)
        return [TileRow._make(row) for row in rows]

    async def tile_roots(
        self, tenant_id: str, level: int, first: int, last: int
    ) -> list[tuple[int, str]]:
        """(tile, root) of whole tiles `first` to `last` of a level."""
        sql = self._sql["tile_roots"]
        rows = await self._reads.fetch(sql, tenant_id, level, first, last, tenant=tenant_id)
        return [(row[0], row[1]) for row in rows]

    async def last_tile(self, tenant_id: str, level: int) -> tuple[int, int] | None:
        """(tile, width) of the last tile of a level."""
        rows = await self._reads.fetch(self._sql["last_tile"], tenant_id, level, tenant=tenant_id)
        return (rows[0][0], rows[0][1]) if rows else None


class TreeWriter(TreeReader):
    """Writes them beside the calls, in transactions of their own."""

    def __init__(self, store: SqlStore) -> None:
        super().__init__(store)
        self._store = store
        self._driver = store._driver

    async def put_checkpoints(self, rows: Sequence[CheckpointRow]) -> None:
        """Keeps new ones, and of each tenant's signed ones the newest few."""
        tenants = sorted({row.tenant_id for row in rows})

        def script() -> Script[None]:
            yield from execute_many(self._sql["put_checkpoint"], rows)
            for tenant_id in tenants:
                yield from fetch(self._sql["drop_old_checkpoints"], tenant_id, CHECKPOINTS_KEPT)

        await self._driver.transaction(script, tenants)
        await self._store.after_commit()

    async def set_checkpoint(self, row: CheckpointRow) -> None:
        """Keeps one in the place of the one of the same size and root."""
        script = partial(execute_many, self._sql["set_checkpoint"], [row])
        await self._driver.transaction(script, [row.tenant_id])
        await self._store.after_commit()

    async def put_tiles(self, rows: Sequence[TileRow]) -> None:
        """Puts tiles of one tenant."""
        script = partial(execute_together, (self._sql["put_tile"], rows))
        await self._driver.transaction(script, [rows[0].tenant_id])
        await self._store.after_commit()
