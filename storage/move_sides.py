"""The two ends of a move, who may hold them, and both read as if they were one store.

Knows: that a source is read, by a sidecar's side or alone, and a target is written; that a file is
held by its lock and a server tells by the leases of its nodes; and how a row that differs is named.
Must not know: in which order things are moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from storage.driver import Driver, Row, Value, fetch
from storage.errors import StoreError
from storage.watch_reads import Reads


class MoveRefused(StoreError):
    """The move cannot begin or go on."""

    code = "move_refused"
    next_step = "Nothing of the source was changed; clear the cause and start the move again."


class MovedAlready(MoveRefused):
    """The store was left for good: another one has gone on since, or may have."""

    next_step = (
        "Set `store:` to that URL. The way back is another move: from there into a new file, or an "
        "empty database."
    )


class MoveDiffers(StoreError):
    """What stands in the target is not what stands in the source."""

    code = "move_differs"
    next_step = "Keep the source; drop the target, make a new one and start the move again."


#: The number of the lock on a server that a move holds.
MOVE_LOCK: Final = 4711200803

_Asked = tuple[Value, ...]


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

    async def fetch(
        self,
        name: str,
        *parameters: Value,
        tenant: str | None = None,
        bytes_max: int | None = None,
    ) -> list[Row]:
        """All rows of one statement, or those up to `bytes_max` (`Driver.fetch`)."""
        sql = self.sql[name]
        return await self.reads.fetch(sql, *parameters, tenant=tenant, bytes_max=bytes_max)

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
    if "take_job" not in side.sql:
        return
    rows = await side.work.transaction(partial(fetch, side.sql["take_job"], MOVE_LOCK))
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

    Heads are read in the source alone: the target gets its own last. Of receipts with their facts
    the page after one is read while the caller looks at it.
    """

    def __init__(self, source: Side, target: Side, on_page: Callable[[int], None]) -> None:
        """`on_page(seq)` is told of each page of receipts."""
        self._source, self._target = source, target
        self._names = {text: name for name, text in target.sql.items()}
        self._on_page = on_page
        self._ahead: tuple[tuple[_Asked, int | None], asyncio.Future[list[Row]]] | None = None

    async def fetch(
        self, sql: str, *parameters: Value, tenant: str | None = None, bytes_max: int | None = None
    ) -> list[Row]:
        """See `Driver.fetch`; what comes back stands in both stores."""
        name = self._names[sql]
        if name == "head":
            return await self._source.fetch(name, *parameters, tenant=tenant)
        if name == "recorded_after":
            return await self._page(parameters, tenant, bytes_max)
        return await self._both(name, parameters, tenant, bytes_max)

    async def close(self) -> None:
        """Gives up what was read ahead; the sides are closed by whoever opened them."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead[1].cancel()
            await asyncio.gather(ahead[1], return_exceptions=True)

    async def _page(
        self, parameters: _Asked, tenant: str | None, bytes_max: int | None
    ) -> list[Row]:
        if self._ahead is None or self._ahead[0] != (parameters, bytes_max):
            await self.close()
            rows = await self._both("recorded_after", parameters, tenant, bytes_max)
        else:
            rows = await self._ahead[1]
            self._ahead = None
        if rows:
            last: int = rows[-1][1]
            following = (parameters[0], last, *parameters[2:])
            reading = self._both("recorded_after", following, tenant, bytes_max)
            self._ahead = ((following, bytes_max), asyncio.ensure_future(reading))
            self._on_page(last)
        return rows

    async def _both(
        self, name: str, parameters: _Asked, tenant: str | None, bytes_max: int | None
    ) -> list[Row]:
        wanted, found = await asyncio.gather(
            self._source.fetch(name, *parameters, tenant=tenant, bytes_max=bytes_max),
            self._target.fetch(name, *parameters, tenant=tenant, bytes_max=bytes_max),
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
