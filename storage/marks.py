"""The marks that keep a store from being opened for work while, or after, it is moved.

Knows: three named values of the store itself. FILLING stands in a target that is not whole yet,
FENCED in a source whose sidecar stands still for a move, MOVED in a source that was left. They
outlive the process that set them, so a store cannot be taken up again by a restart alone.
Must not know: how a store is moved, who raises a fence, what is done to a caller meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from storage.driver import Script, execute_many, fetch
from storage.errors import StoreCorrupt, StoreError, StoreHeld
from storage.records import Answer, Entry, Seal
from storage.sql_store import SqlReader, SqlStore

FILLING = "move_filling_from"
FENCED = "move_fenced"
MOVED = "move_moved_to"


class StoreMoved(StoreError):
    """The store was moved away, or is being filled by a move."""

    code = "store_moved"
    next_step = "Open the store it was moved to, or finish the move with `store move`."


class StoreFenced(StoreError):
    """The store stands still for a move that has not ended."""

    code = "store_fenced"
    next_step = (
        "`store move --fence` with the same URLs goes on where it was; `aegis-sidecar store "
        "unfence` lifts the fence."
    )


#: What is said of a store with such a mark.
_NOT_TO_WORK_ON = ((MOVED, "was moved to"), (FILLING, "is being filled from"))


class FenceMark(NamedTuple):
    """Who stands still, and for what: `fence_id` is told apart from any other fence there was."""

    fence_id: str
    target: str
    node_id: str
    reason: str
    since_us: int


class Told(NamedTuple):
    """What is put into the chains in one transaction with a mark."""

    entries: Sequence[Entry]
    seal: Seal


def check_open_for_work(sql: Mapping[str, str]) -> Script[None]:
    """Raises StoreMoved or StoreFenced for a store that must not be worked on."""
    for name, words in _NOT_TO_WORK_ON:
        rows = yield from fetch(sql["state_value"], name)
        if rows:
            raise StoreMoved(f"this store {words} {shown_of(name, rows[0][0])}")
    rows = yield from fetch(sql["state_value"], FENCED)
    if rows:
        mark = fence_of(rows[0][0])
        raise StoreFenced(f"this store is fenced for a move to {mark.target}")


def check_not_left(sql: Mapping[str, str]) -> Script[None]:
    """What a node looks for that connects to a server again, before it writes anything: it may have
    been gone for so long that it was taken for dead, and the store moved. Raises StoreMoved."""
    rows = yield from fetch(sql["state_value"], MOVED)
    if rows:
        raise StoreMoved(f"this store was moved to {shown_of(MOVED, rows[0][0])}")


def shown_of(name: str, value: str) -> str:
    """The store that FILLING or MOVED names; raises StoreCorrupt."""
    try:
        return str(json.loads(value)["store"])
    except (ValueError, TypeError, KeyError) as error:
        raise StoreCorrupt(f"the mark {name} cannot be read") from error


def fence_of(value: str) -> FenceMark:
    """What FENCED says; raises StoreCorrupt."""
    try:
        return FenceMark(**json.loads(value))
    except (ValueError, TypeError) as error:
        raise StoreCorrupt(f"the mark {FENCED} cannot be read") from error


def leave_for(sql: Mapping[str, str], target: str) -> Script[None]:
    """The source is left: MOVED takes the place of FENCED. Again is no harm."""
    yield from fetch(sql["put_state"], MOVED, json.dumps({"store": target}))
    yield from execute_many(sql["drop_state"], [(FENCED,)])


class Marks:
    """Reads and sets the marks of an open store; setting needs one that was opened for writing."""

    def __init__(self, store: SqlReader) -> None:
        self._reads = store._reads
        self._sql = store._sql
        self._store = store if isinstance(store, SqlStore) else None

    async def fence(self) -> FenceMark | None:
        """The fence that is on record; None without one."""
        rows = await self._reads.fetch(self._sql["state_value"], FENCED)
        return fence_of(rows[0][0]) if rows else None

    async def moved_to(self) -> str | None:
        """Where the store was moved to; None while it was not."""
        rows = await self._reads.fetch(self._sql["state_value"], MOVED)
        return shown_of(MOVED, rows[0][0]) if rows else None

    async def why_closed(self) -> str:
        """Why nobody may work on the store, in words that follow its name; "" if they may."""
        for name, words in _NOT_TO_WORK_ON:
            rows = await self._reads.fetch(self._sql["state_value"], name)
            if rows:
                return f"{words} {shown_of(name, rows[0][0])}"
        fence = await self.fence()
        return f"is fenced for a move to {fence.target}" if fence else ""

    async def put_fence(self, mark: FenceMark, told: Told | None = None) -> Sequence[Answer]:
        """Puts the fence on record, and what is told with it; an answer for each entry of that.
        Raises StoreFenced if another fence is on record, StoreMoved if it is late."""
        return await self._run(partial(_put_fence, self._sql, mark), told)

    async def drop_fence(self, told: Told | None = None) -> Sequence[Answer]:
        """Takes the fence off the record, as `put_fence` puts it there; raises StoreMoved where the
        store was left for good."""
        return await self._run(partial(_drop_fence, self._sql), told)

    async def leave(self, target: str, node_id: str | None = None) -> None:
        """The store was moved: from now on nobody opens it for work.

        With `node_id` raises StoreHeld if another node has come to life on it: whoever does looks
        for the mark after he is to be seen, and here it is looked for him after the mark is set.
        Then the fence is on record as before.
        """
        if await self.moved_to() == target:
            return  # again
        fence = await self.fence()
        await self._run(partial(leave_for, self._sql, target))
        living: list[str] = []
        if node_id is not None and "living_nodes" in self._sql:
            rows = await self._reads.fetch(self._sql["living_nodes"])
            living = [str(row[0]) for row in rows if row[0] != node_id]
        if living:
            await self._run(partial(_stay, self._sql, fence))
            raise StoreHeld(f"{', '.join(living)} came to work on it while it was moved")

    async def record_while_open(self, told: Told) -> Sequence[Answer]:
        """Records what is done beside any queue, and may be begun before a move and go on after it;
        an answer for each entry. Raises StoreMoved or StoreFenced if the store must not be worked
        on by then."""
        return await self._run(partial(check_open_for_work, self._sql), told)

    async def check(self) -> None:
        """Raises StoreMoved or StoreFenced if the store must not be worked on."""
        await self._run(partial(check_open_for_work, self._sql))

    async def _run(
        self, script: partial[Script[None]], told: Told | None = None
    ) -> Sequence[Answer]:
        if self._store is None:
            raise StoreError("this store was opened for reading only")
        if told is not None:
            return await self._store.record_with(script, *told)
        await self._store._driver.transaction(script)
        return ()


def _put_fence(sql: Mapping[str, str], mark: FenceMark) -> Script[None]:
    rows = yield from fetch(sql["state_value"], MOVED)
    if rows:
        raise StoreMoved(f"this store was moved to {shown_of(MOVED, rows[0][0])}")
    said = json.dumps(mark._asdict())
    kept = yield from fetch(sql["keep_state"], FENCED, said)
    if kept[0][0] != said:
        other = fence_of(kept[0][0])
        raise StoreFenced(f"this store is fenced by {other.node_id} for a move to {other.target}")


def _stay(sql: Mapping[str, str], fence: FenceMark | None) -> Script[None]:
    """The store was not left after all."""
    if fence is not None:
        yield from fetch(sql["put_state"], FENCED, json.dumps(fence._asdict()))
    yield from execute_many(sql["drop_state"], [(MOVED,)])


def _drop_fence(sql: Mapping[str, str]) -> Script[None]:
    rows = yield from fetch(sql["state_value"], MOVED)
    if rows:
        raise StoreMoved(f"this store was moved to {shown_of(MOVED, rows[0][0])}")
    yield from execute_many(sql["drop_state"], [(FENCED,)])
