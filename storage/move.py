"""Carries a whole store to another engine: copied by key, compared row by row, then marked.

Knows: which tables make up a store, the order in which they may appear in the target (heads last,
so that a target that is not whole is never taken for a store), and when each mark is set: a target
that is being filled and a source that was left are not opened for work. A move that was cut off
goes on where it was, as long as the source is the one it began with. Nothing is written to the
source before its last step, and that step is the caller's (`leave`): a sidecar that stands still
on the source sets the mark itself.
Must not know: what a receipt means; verifying chains is the caller's, given as `verify`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple

from storage.driver import Row, Script, execute_many, execute_together, fetch
from storage.errors import StoreCorrupt
from storage.marks import FILLING, MOVED, check_open_for_work, leave_for, shown_of
from storage.move_sides import (
    Mirror,
    MovedAlready,
    MoveDiffers,
    MoveRefused,
    Side,
    living_nodes,
)
from storage.move_tiles import compare_tiles, copy_tiles
from storage.retention import CareReader
from storage.sql_store import SqlReader
from storage.standing import STANDING

__all__ = ["PHASES", "Moved", "Progress", "leave_source", "move"]

PAGE_ROWS = 2000
#: Of facts, which may hold large arguments, a page has no more than this (and one row more).
PAGE_CHARACTERS = 4_000_000
FIRST_PAGE_ROWS = 64
_CHANGED = "the source has changed while it was moved: somebody works on it"

#: The steps that progress is told of, in their order.
PHASES = (
    "receipts", "facts", "small tables", "verified", "heads", "compared", "source marked", "done"
)  # fmt: skip

#: (phase, rows done, rows in all)
Progress = Callable[[str, int, int], None]
#: Verifies the chain of one tenant by a reader that gives what stands in both stores alike.
Verify = Callable[[SqlReader, str], Awaitable[None]]


class Moved(NamedTuple):
    """How many receipts stand in the target; `was_done` if an earlier move had ended already."""

    receipts: int
    was_done: bool


async def move(
    source: Side,
    target: Side,
    verify: Verify,
    on_progress: Progress,
    leave: Callable[[Sequence[Row]], Awaitable[None]],
) -> Moved:
    """Copies, compares and verifies each tenant, then has the source marked by `leave(heads)`.

    Nobody else may write to either side meanwhile. Raises MoveRefused (a target that is not
    empty, a source that changed since the move began), MoveDiffers, StoreCorrupt, or what a side,
    `verify` or `leave` raises; then the source is as it was, and the move can be started again.
    """
    heads = await _sound_heads(source)
    total: int = sum(head[1] for head in heads)
    if await _is_done(source, target, heads):
        return Moved(total, was_done=True)
    await _begin(source, target, heads)
    copied = 0
    for head in heads:
        copied = await _copy_receipts(source, target, head, copied, total, on_progress)
    for head in heads:
        await _copy_facts(source, target, head, on_progress)
    tenants = [head[0] for head in heads]
    await copy_tiles(source, target, tenants)
    await _copy_small(source, target)
    on_progress("small tables", 1, 1)
    verified = 0
    for head in heads:
        verified = await _verify_tenant(source, target, head, verify, verified, total, on_progress)
    await target.work.transaction(partial(execute_many, target.sql["move_put_head"], heads))
    on_progress("heads", len(heads), len(heads))
    await compare_tiles(source, target, tenants)
    await _compare_whole(source, target, heads)
    on_progress("compared", total, total)
    await leave(heads)
    on_progress("source marked", 1, 1)
    await target.work.transaction(partial(execute_many, target.sql["drop_state"], [(FILLING,)]))
    on_progress("done", total, total)
    return Moved(total, was_done=False)


async def leave_source(source: Side, shown: str, heads: Sequence[Row]) -> None:
    """Marks a source that nobody works on as moved to `shown`.

    Whoever opens it looks for the mark after he is to be seen as living, and here it is looked
    for the living after the mark is set: one of the two sees the other. Raises MoveRefused if
    somebody came to work on it meanwhile; then the mark is gone again.
    """
    await source.work.transaction(partial(leave_for, source.sql, shown))
    living = await living_nodes(source)
    if living or sorted(await source.fetch("move_heads")) != list(heads):
        drop = partial(execute_many, source.sql["drop_state"], [(MOVED,)])
        await source.work.transaction(drop)
        who = f"by {', '.join(living)} " if living else ""
        raise MoveRefused(f"{source.shown} was taken up {who}while it was moved: stop that first")


# -- before anything is copied ---------------------------------------------------------------


async def _sound_heads(source: Side) -> list[Row]:
    """The heads of the source, sorted; a chain without its head would be left behind unseen."""
    heads = sorted(await source.fetch("move_heads"))
    known = {head[0] for head in heads}
    care = CareReader(SqlReader(source.reads, source.sql))
    lost = [tenant for tenant in await care.tenants_with_receipts() if tenant not in known]
    if lost:
        raise StoreCorrupt(f"there are receipts of tenant {lost[0]!r} in the source, and no head")
    return heads


async def _is_done(source: Side, target: Side, heads: Sequence[Row]) -> bool:
    """Whether an earlier move to this very target had come to its end: it may have been killed
    before it could say so."""
    mark = await source.state(MOVED)
    if mark is None or shown_of(MOVED, mark) != target.shown or await target.state(FILLING):
        return False
    found = {head[0]: head[1] for head in await target.fetch("move_heads")}
    if not found and heads:
        return False
    for head in heads:
        tenant: str = head[0]
        rows = await target.fetch("receipt_time", tenant, head[1], tenant=tenant)
        if found.get(tenant, -1) < head[1] or (head[1] and [row[1] for row in rows] != [head[2]]):
            raise MoveRefused(f"{source.shown} was moved to {target.shown}, which is another now")
    return True


async def _begin(source: Side, target: Side, heads: Sequence[Row]) -> None:
    mark = json.dumps({"store": source.shown, "heads": [[h[0], h[1], h[2]] for h in heads]})
    found = await target.state(FILLING)
    left_for = await source.state(MOVED)
    if left_for is not None and (found != mark or shown_of(MOVED, left_for) != target.shown):
        raise MovedAlready(f"{source.shown} was moved already, to {shown_of(MOVED, left_for)}")
    if found == mark:
        return
    if found is not None:
        raise MoveRefused(
            "the source has changed, or is another one, since the move into this target began: "
            "give an empty target"
        )
    if await target.state(MOVED) is not None or await target.fetch("move_heads"):
        raise MoveRefused(f"the target {target.shown} is not empty")
    await target.work.transaction(partial(_mark_target, target, mark))


def _mark_target(target: Side, mark: str) -> Script[None]:
    """FILLING, in an empty store: a row that nobody vouches for would be carried on unseen."""
    yield from check_open_for_work(target.sql)
    for name in (
        "move_any_receipt",
        "move_any_facts",
        "move_open_intents",
        *(table.read for table in STANDING),
    ):
        if (yield from fetch(target.sql[name])):
            raise MoveRefused(f"the target {target.shown} is not empty")
    yield from fetch(target.sql["put_state"], FILLING, mark)


# -- copying ---------------------------------------------------------------------------------


async def _copy_receipts(
    source: Side, target: Side, head: Row, copied: int, total: int, on_progress: Progress
) -> int:
    tenant: str = head[0]
    after: int = (await target.fetch("move_last_receipt", tenant, tenant=tenant))[0][0]
    copied += after

    async def page(after: int) -> list[Row]:
        return await source.fetch("receipts", tenant, after, PAGE_ROWS, tenant=tenant)

    async with contextlib.aclosing(_ahead(page, after)) as pages:
        async for rows in pages:
            await _insert(target, tenant, "insert_receipt", rows)
            copied += rows[-1][1] - after
            after = rows[-1][1]
            on_progress("receipts", copied, total)
    if after > head[1]:  # its fence was lifted meanwhile; nothing of it is damaged
        raise MoveRefused(_CHANGED)
    if after != head[1]:
        raise StoreCorrupt(f"receipts of {tenant!r} end at {after} in the source, not at {head[1]}")
    return copied


async def _copy_facts(source: Side, target: Side, head: Row, on_progress: Progress) -> None:
    tenant: str = head[0]
    after: int = (await target.fetch("move_last_facts", tenant, tenant=tenant))[0][0]

    page_end = _FactsEnd(source, tenant)

    async def page(after: int) -> list[Row]:
        end = await page_end(after, PAGE_ROWS)
        return await source.fetch("facts_page", tenant, after, end, tenant=tenant) if end else []

    async with contextlib.aclosing(_ahead(page, after)) as pages:
        async for rows in pages:
            await _insert(target, tenant, "insert_call_facts", rows)
            on_progress("facts", min(rows[-1][1], head[1]), head[1])


class _FactsEnd:
    """Where pages of one tenant's facts end, by rows and by size. A page is measured before it is
    read; it has at most twice the rows of the one before, so that little is measured in vain."""

    def __init__(self, side: Side, tenant: str) -> None:
        self._side = side
        self._tenant = tenant
        self._rows = FIRST_PAGE_ROWS

    async def __call__(self, after: int, limit: int) -> int | None:
        """The last seq of the page after `after`; None if there are no more facts."""
        parameters = (self._tenant, after, min(limit, self._rows), PAGE_CHARACTERS)
        rows = await self._side.fetch("move_facts_end", *parameters, tenant=self._tenant)
        end: int | None = rows[0][0]
        self._rows = min(PAGE_ROWS, max(2, rows[0][1] * 2))
        return end


async def _ahead(
    page: Callable[[int], Awaitable[list[Row]]], after: int
) -> AsyncGenerator[list[Row], None]:
    """Pages one after the other, each read while the one before is being written."""
    reading = asyncio.ensure_future(page(after))
    try:
        while rows := await reading:
            reading = asyncio.ensure_future(page(rows[-1][1]))
            yield rows
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _copy_small(source: Side, target: Side) -> None:
    """Open intents, cuts, and what stands beside the chains: repeated from the start, each row
    once."""
    intents = await source.fetch("move_open_intents")
    standing = [(table.put, await source.fetch(table.read)) for table in STANDING]
    cuts = await source.fetch("move_states")

    def script() -> Script[list[int]]:
        return (
            yield from execute_together(
                (target.sql["move_put_intent"], intents),
                *((target.sql[put], rows) for put, rows in standing),
                (target.sql["put_state"], cuts),
            )
        )

    await target.work.transaction(script)


async def _insert(target: Side, tenant: str, name: str, rows: Sequence[Row]) -> None:
    await target.work.transaction(partial(execute_many, target.sql[name], rows), [tenant])
    await target.work.upkeep()


# -- comparing -------------------------------------------------------------------------------


async def _verify_tenant(
    source: Side,
    target: Side,
    head: Row,
    verify: Verify,
    verified: int,
    total: int,
    on_progress: Progress,
) -> int:
    """The chain as both stores give it, row for row, with what stands outside of it."""
    tenant: str = head[0]

    def on_page(seq: int) -> None:
        on_progress("verified", verified + seq, total)

    mirror = Mirror(source, target, on_page)
    reader = SqlReader(mirror, target.sql)
    try:
        await _compare_below_cut(reader, tenant, _FactsEnd(source, tenant))
        await verify(reader, tenant)
        for table in ("receipts", "call_facts"):
            await CareReader(reader).count(table, tenant, 0, head[1])
    finally:
        await mirror.close()
    for side in (source, target):
        if await side.fetch("move_facts", tenant, head[1], 1, tenant=tenant):
            raise StoreCorrupt(f"there are facts of tenant {tenant!r} after its last receipt")
    return verified + int(head[1])


async def _compare_below_cut(
    reader: SqlReader, tenant: str, page_end: Callable[[int, int], Awaitable[int | None]]
) -> None:
    """What an unfinished pruning left, of which no chain tells."""
    care = CareReader(reader)
    cut_seq = (await care.cut(tenant)).seq
    after = 0
    while after < cut_seq and (rows := await reader.recorded_after(tenant, after, PAGE_ROWS)):
        after = rows[-1].receipt.seq
    after = 0
    while after < cut_seq and (end := await page_end(after, PAGE_ROWS)) is not None:
        await care.facts(tenant, after, end)
        after = end


async def _compare_whole(source: Side, target: Side, heads: Sequence[Row]) -> None:
    """What is small, in one piece; and the source is still the one that was copied."""
    if sorted(await source.fetch("move_heads")) != list(heads):
        raise MoveRefused(_CHANGED)
    small = (
        "move_heads",
        "move_open_intents",
        *(table.read for table in STANDING),
        "move_states",
    )
    for name in small:
        if sorted(await source.fetch(name)) != sorted(await target.fetch(name)):
            raise MoveDiffers(f"{name.removeprefix('move_')} of the two stores differ")
