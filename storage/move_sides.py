"""The two ends of a move, who may hold them, and both read as if they were one store.

Knows: that a source is read, by a sidecar's side or alone, and a target is written; that a file is
held by its lock and a server tells by the leases of its nodes; and how a row that differs is named.
Must not know: in which order things are moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from storage.driver import Driver, Row, Value, fetch
from storage.errors import StoreError
from storage.watch_reads import Reads


class MoveRefused(StoreError):
    """The move cannot begin or go on."""

    code = "move_refused"
    next_step = "Nothing of the source was changed; clear the cause and start the move again."


class MoveDiffers(StoreError):
    """What stands in the target is not what stands in the source."""

    code = "move_differs"
    next_step = "Keep the source; drop the target, make a new one and start the move again."


_Asked = tuple[Value, ...]
#: Receipts, and the facts beside them.
_Page = tuple[list[Row], list[Row]]


@dataclass(frozen=True, slots=True)
class Side:
    """One end of a move: how it is read, its statements, and its URL for people.

    `driver` is None for a file that a sidecar holds, which can only be read beside it.
    """

    reads: Reads
    sql: Mapping[str, str]
    shown: str
    driver: Driver | None

    @property
    def work(self) -> Driver:
        """The driver, for what has to be written here."""
        if self.driver is None:
            raise MoveRefused(f"{self.shown} is held by a sidecar and can only be read")
        return self.driver

    async def fetch(self, name: str, *parameters: Value, tenant: str | None = None) -> list[Row]:
        """All rows of one statement."""
        return await self.reads.fetch(self.sql[name], *parameters, tenant=tenant)

    async def state(self, name: str) -> str | None:
        """A named value of the store itself."""
        rows = await self.fetch("state_value", name)
        return str(rows[0][0]) if rows else None


async def living_nodes(side: Side) -> list[str]:
    """Nodes that must be taken for alive; a file has none: its lock tells."""
    if "living_nodes" not in side.sql:
        return []
    return [str(row[0]) for row in await side.fetch("living_nodes")]


async def take(side: Side, fenced_node: str | None = None) -> None:
    """Makes sure that nobody works on this side: raises MoveRefused while somebody does.

    `fenced_node` is the one that stands still for this move.
    """
    if "take_move" not in side.sql:
        return
    rows = await side.work.transaction(partial(fetch, side.sql["take_move"]))
    if not rows[0][0]:
        raise MoveRefused(f"another move works on {side.shown}")
    living = [name for name in await living_nodes(side) if name != fenced_node]
    if living:
        raise MoveRefused(
            f"sidecars work on {side.shown}: {', '.join(living)}. Stop them; the only one may be "
            "fenced instead, with --fence and its --config"
        )


class Mirror:
    """Reads both sides at once and gives what is the same in both; raises MoveDiffers.

    Heads are read in the source alone: the target gets its own last. A page of receipts comes with
    the facts beside it, and the page after it is read while the caller looks at this one.
    """

    def __init__(
        self,
        source: Side,
        target: Side,
        page_end: Callable[[int, int], Awaitable[int | None]],
        on_page: Callable[[int], None],
    ) -> None:
        """`page_end(after, limit)` is where the next page of facts ends; `on_page(seq)` is told of
        each page of receipts."""
        self._source, self._target = source, target
        self._names = {text: name for name, text in target.sql.items()}
        self._page_end = page_end
        self._on_page = on_page
        self._ahead: tuple[_Asked, asyncio.Future[_Page]] | None = None
        self._facts: tuple[_Asked, list[Row]] | None = None

    async def fetch(self, sql: str, *parameters: Value, tenant: str | None = None) -> list[Row]:
        """See `Driver.fetch`; what comes back stands in both stores."""
        name = self._names[sql]
        if name == "head":
            return await self._source.fetch(name, *parameters, tenant=tenant)
        if name == "receipts":
            return await self._receipts(parameters, tenant)
        if name == "facts_page" and self._facts is not None and self._facts[0] == parameters:
            return self._facts[1]
        return await self._both(name, parameters, tenant)

    async def close(self) -> None:
        """Gives up what was read ahead; the sides are closed by whoever opened them."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead[1].cancel()
            await asyncio.gather(ahead[1], return_exceptions=True)

    async def _receipts(self, asked: _Asked, tenant: str | None) -> list[Row]:
        if self._ahead is None or self._ahead[0] != asked:
            await self.close()
            page = await self._page(asked, tenant)
        else:
            page = await self._ahead[1]
            self._ahead = None
        receipts, facts = page
        if receipts:
            last: int = receipts[-1][1]
            self._facts = ((asked[0], asked[1], last), facts)
            following = (asked[0], last, asked[2])
            self._ahead = (following, asyncio.ensure_future(self._page(following, tenant)))
            self._on_page(last)
        return receipts

    async def _page(self, asked: _Asked, tenant: str | None) -> _Page:
        """Receipts and their facts; fewer where the facts are large."""
        name, after, limit = asked
        if isinstance(after, int) and isinstance(limit, int):
            end = await self._page_end(after, limit)
            limit = limit if end is None else min(limit, end - after)
        receipts = await self._both("receipts", (name, after, limit), tenant)
        if not receipts:
            return [], []
        return receipts, await self._both("facts_page", (name, after, receipts[-1][1]), tenant)

    async def _both(self, name: str, parameters: _Asked, tenant: str | None) -> list[Row]:
        wanted, found = await asyncio.gather(
            self._source.fetch(name, *parameters, tenant=tenant),
            self._target.fetch(name, *parameters, tenant=tenant),
        )
        if wanted != found:
            raise MoveDiffers(_difference(name, tenant, wanted, found))
        return found


def _difference(name: str, tenant: str | None, wanted: Sequence[Row], found: Sequence[Row]) -> str:
    for one, other in zip(wanted, found, strict=False):
        if one != other:
            where = f"row {one[1]}" if len(one) > 1 else "a value"
            return f"{name}: {where} of tenant {tenant!r} differs"
    return f"{name}: tenant {tenant!r} has {len(wanted)} rows here, the target {len(found)}"
