"""Carries the tiles of trees to another store, and compares them: page by page, for they are large.

Must not know: what a tile is for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial

from storage.driver import Row, execute_many
from storage.move_sides import MoveDiffers, Side

#: About a megabyte.
PAGE_ROWS = 100


async def copy_tiles(source: Side, target: Side, tenants: Sequence[str]) -> None:
    """All of them, again from the start if a move was cut off: each is put once."""
    for tenant in tenants:
        async for rows in _pages(source, tenant):
            put = partial(execute_many, target.sql["put_tile"], rows)
            await target.work.transaction(put, [tenant])
            await target.work.upkeep()


async def compare_tiles(source: Side, target: Side, tenants: Sequence[str]) -> None:
    """Raises MoveDiffers unless both sides have the same."""
    for tenant in tenants:
        after = _START
        while True:
            wanted = await _page(source, tenant, after)
            if wanted != await _page(target, tenant, after):
                raise MoveDiffers(f"tiles of tenant {tenant!r} after {after} differ")
            if not wanted:
                break
            after = _place(wanted[-1])


_START = (-1, -1)


def _place(row: Row) -> tuple[int, int]:
    return row[1], row[2]


async def _page(side: Side, tenant: str, after: tuple[int, int]) -> list[Row]:
    return await side.fetch("move_tiles", tenant, *after, PAGE_ROWS, tenant=tenant)


async def _pages(side: Side, tenant: str) -> AsyncIterator[list[Row]]:
    after = _START
    while rows := await _page(side, tenant, after):
        yield rows
        after = _place(rows[-1])
