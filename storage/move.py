"""Carries a whole store to another engine: copied by key, compared row by row, then marked.

Knows: which tables make up a store, the order in which they may appear in the target (heads last,
so that a target that is not whole is never taken for a store), and the marks: a target that is
being filled and a source that was left are not opened for work. A move that was cut off goes on
where it was, as long as the source is the one it began with.
Must not know: what a receipt means; verifying chains is the caller's, given as `verify`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from storage.driver import Driver, Row, Script, execute_many, execute_together, fetch
from storage.errors import StoreError

PAGE_ROWS = 2000

#: Names in `store_state`: what a target is being filled from, and where a source was moved to.
FILLING = "move_filling_from"
MOVED = "move_moved_to"

#: (what, rows done, rows in all)
Progress = Callable[[str, int, int], None]


class MoveRefused(StoreError):
    """The move cannot begin or go on."""

    code = "move_refused"
    next_step = "Nothing of the source was changed; clear the cause and start the move again."


class MoveDiffers(StoreError):
    """What stands in the target is not what stands in the source."""

    code = "move_differs"
    next_step = "Keep the source; drop the target, make a new one and start the move again."


class StoreMoved(StoreError):
    """The store was moved away, or is being filled by a move."""

    code = "store_moved"
    next_step = "Open the store it was moved to, or finish the move with `store move`."


@dataclass(frozen=True, slots=True)
class Side:
    """One end of a move: an open store's driver and its statements, and its URL for people."""

    driver: Driver
    sql: Mapping[str, str]
    shown: str

    async def fetch(
        self, name: str, *parameters: str | int, tenant: str | None = None
    ) -> list[Row]:
        """All rows of one statement."""
        return await self.driver.fetch(self.sql[name], *parameters, tenant=tenant)

    async def state(self, name: str) -> str | None:
        """A named value of the store itself."""
        rows = await self.fetch("state_value", name)
        return str(rows[0][0]) if rows else None


def check_not_moved(sql: Mapping[str, str]) -> Script[None]:
    """Raises StoreMoved for a store that a move has left, or has not filled yet."""
    for name, words in ((MOVED, "was moved to"), (FILLING, "is being filled from")):
        rows = yield from fetch(sql["state_value"], name)
        if rows:
            raise StoreMoved(f"this store {words} {_shown(rows[0][0])}")


def _shown(mark: str) -> str:
    value = json.loads(mark)
    return str(value["store"])


async def take(side: Side) -> None:
    """Makes sure that nobody works on this side: raises MoveRefused while somebody does.

    A file is held by its lock already; a server tells by the leases of its nodes.
    """
    if "living_nodes" not in side.sql:
        return
    rows = await side.driver.transaction(partial(fetch, side.sql["take_move"]))
    if not rows[0][0]:
        raise MoveRefused(f"another move works on {side.shown}")
    living = [str(row[0]) for row in await side.fetch("living_nodes")]
    if living:
        raise MoveRefused(f"stop the sidecars on {side.shown} first: {', '.join(living)}")


async def move(
    source: Side,
    target: Side,
    verify: Callable[[str], Awaitable[None]],
    on_progress: Progress,
) -> int:
    """Copies, compares, verifies each tenant by `verify(tenant_id)`, then marks; receipts moved.

    Nobody else may write to either side meanwhile. Raises MoveRefused (a target that is not
    empty, a source that changed since the move began), MoveDiffers, or what a side or `verify`
    raises; then the source is as it was, and the move can be started again.
    """
    heads = sorted(await source.fetch("move_heads"))
    await _begin(source, target, heads)
    copied = 0
    total: int = sum(head[1] for head in heads)
    for head in heads:
        copied = await _copy_tenant(source, target, head, copied, total, on_progress)
    await _copy_small(source, target)
    compared = 0
    for head in heads:
        compared = await _compare_tenant(source, target, head, compared, total, on_progress)
    await _copy_heads(target, heads)
    await _compare_whole(source, target)
    for head in heads:
        await verify(head[0])
        on_progress("verified", head[1], total)
    await _finish(source, target)
    return total


async def _begin(source: Side, target: Side, heads: Sequence[Row]) -> None:
    mark = json.dumps({"store": source.shown, "heads": [[h[0], h[1], h[2]] for h in heads]})
    found = await target.state(FILLING)
    if found == mark:
        return
    if found is not None:
        raise MoveRefused("the source has changed, or is another one, since this move began")
    if await target.fetch("move_heads") or await target.state(MOVED) is not None:
        raise MoveRefused(f"the target {target.shown} is not empty")
    if await source.state(MOVED) is not None:
        raise MoveRefused(f"the source {source.shown} was moved already")
    await _put_state(target, FILLING, mark)


async def _copy_tenant(
    source: Side, target: Side, head: Row, copied: int, total: int, on_progress: Progress
) -> int:
    tenant: str = head[0]
    end: int = head[1]
    after: int = (await target.fetch("move_last_receipt", tenant, tenant=tenant))[0][0]
    copied += after
    while after < end:
        rows = await source.fetch("receipts", tenant, after, PAGE_ROWS, tenant=tenant)
        if not rows:
            raise MoveDiffers(f"receipts of {tenant!r} after {after} are missing in the source")
        await _insert(target, tenant, "insert_receipt", rows)
        after = int(rows[-1][1])
        copied += len(rows)
        on_progress("receipts", copied, total)
    after = (await target.fetch("move_last_facts", tenant, tenant=tenant))[0][0]
    while rows := await source.fetch("move_facts", tenant, after, PAGE_ROWS, tenant=tenant):
        await _insert(target, tenant, "insert_call_facts", rows)
        after = rows[-1][1]
        on_progress("facts", min(after, end), end)
    return copied


async def _copy_small(source: Side, target: Side) -> None:
    """Open intents and run versions: repeated from the start, each row once."""
    intents = await source.fetch("move_open_intents")
    runs = await source.fetch("move_run_heads")
    cuts = await source.fetch("move_states")

    def script() -> Script[list[int]]:
        return (
            yield from execute_together(
                (target.sql["move_put_intent"], intents),
                (target.sql["put_run_version"], runs),
                (target.sql["put_state"], cuts),
            )
        )

    await target.driver.transaction(script)


async def _copy_heads(target: Side, heads: Sequence[Row]) -> None:
    await target.driver.transaction(partial(execute_many, target.sql["move_put_head"], heads))


async def _insert(target: Side, tenant: str, name: str, rows: Sequence[Row]) -> None:
    await target.driver.transaction(partial(execute_many, target.sql[name], rows), [tenant])
    await target.driver.upkeep()


async def _compare_tenant(
    source: Side, target: Side, head: Row, compared: int, total: int, on_progress: Progress
) -> int:
    """Every row of both sides, page beside page; a row too many is found as well."""
    tenant = head[0]
    for name, what in (("receipts", "compared"), ("move_facts", "facts compared")):
        after = 0
        while True:
            wanted = await source.fetch(name, tenant, after, PAGE_ROWS, tenant=tenant)
            found = await target.fetch(name, tenant, after, PAGE_ROWS, tenant=tenant)
            if wanted != found:
                raise MoveDiffers(_difference(tenant, what, wanted, found))
            if not wanted:
                break
            after = wanted[-1][1]
            if name == "receipts":
                compared += len(wanted)
                on_progress(what, compared, total)
    return compared


def _difference(tenant: str, what: str, wanted: Sequence[Row], found: Sequence[Row]) -> str:
    for one, other in zip(wanted, found, strict=False):
        if one != other:
            return f"{what}: row {one[1]} of tenant {tenant!r} differs"
    return f"{what}: tenant {tenant!r} has {len(wanted)} rows on a page, the target {len(found)}"


async def _compare_whole(source: Side, target: Side) -> None:
    for name in ("move_heads", "move_open_intents", "move_run_heads", "move_states"):
        if sorted(await source.fetch(name)) != sorted(await target.fetch(name)):
            raise MoveDiffers(f"{name.removeprefix('move_')} of the two stores differ")


async def _finish(source: Side, target: Side) -> None:
    """The source is marked first: should that be the last that happens, nobody opens either, and
    starting the move again ends it."""
    await _put_state(source, MOVED, json.dumps({"store": target.shown}))
    await target.driver.transaction(partial(execute_many, target.sql["drop_state"], [(FILLING,)]))


async def _put_state(side: Side, name: str, value: str) -> None:
    await side.driver.transaction(partial(fetch, side.sql["put_state"], name, value))
