"""What no receipt can tell of: calls refused because the store took none, chains that do not hold.

Knows: that such events are seen by every process for itself, and kept until the store takes what
comes of them; that a place at which a chain breaks is told of once, which the store remembers.
Must not know: how refusals are counted, how chains are read.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from sidecar.soc.engine import Engine
from sidecar.soc.model import Event, EventKind, Evidence, Hit
from storage.watch_rows import WatchMemory

if TYPE_CHECKING:
    from sidecar.soc.chain_link import Break
    from sidecar.soc.watch_rooms import Rooms

_log = logging.getLogger("aegis.soc")

#: Under this name the store remembers places; no detection can have it.
PLACES: Final = ":chain"
PLACES_PAGE: Final = 500
#: Places of a tenant that are told of; a chain with more is broken beyond counting.
PLACES_MAX: Final = 1_000
#: For as long as any record is kept.
REMEMBERED_US: Final = 100 * 365 * 86_400_000_000
#: Events of a tenant that wait for the store.
WAITING_MAX: Final = 200
#: Tries against people and processes that change the same alert at the same time.
TRIES_MAX: Final = 5


class _Held(NamedTuple):
    """What came of an event and is not committed yet; `place` of a break."""

    hits: tuple[Hit, ...]
    place: str = ""


class Beside:
    """All tenants of one process. `turn` is called again and again, by one task."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._engines: dict[str, tuple[str, Engine]] = {}
        self._places: dict[str, set[str]] = {}
        self._broken: dict[str, dict[str, Break]] = {}
        self._held: dict[str, deque[_Held]] = {}

    def refused(self, tenant: str, code: str) -> None:
        """Calls were refused since the last look because the store took none; `code` says why."""
        seen = self._rooms.store.known.all().get(tenant)
        if seen is None:
            return
        at_us = self._rooms.clock.now_us()
        evidence = Evidence(seen.seq, seen.receipt_hash, "", at_us)
        event = Event(EventKind.STORE, tenant, evidence, effect="deny", code=code)
        self._hold(tenant, _Held(self._engine(tenant).see(event)))

    def broke(self, tenant: str, found: Break) -> None:
        """A chain does not hold at a place; known places are passed over when it is their turn."""
        place = str(found.seq)
        broken = self._broken.setdefault(tenant, {})
        if place not in self._places.get(tenant, ()) and len(broken) < PLACES_MAX:
            broken.setdefault(place, found)

    async def turn(self) -> None:
        """Commits what waits. Raises a StoreError; then it waits on."""
        for tenant, broken in list(self._broken.items()):  # chains are swept meanwhile
            while broken:
                await self._notice(tenant, *next(iter(broken.items())))
        for tenant, held in list(self._held.items()):
            while held:
                await self._commit(tenant, held[0])
                held.popleft()

    # -- breaks --------------------------------------------------------------------------------

    async def _notice(self, tenant: str, place: str, found: Break) -> None:
        known = self._places.get(tenant)
        if known is None:
            known = self._places[tenant] = await self._read_places(tenant)
        broken = self._broken[tenant]
        if place not in known and len(known) < PLACES_MAX:
            self._rooms.counts.breaks += 1
            _log.critical(
                "a chain of receipts does not hold",
                extra={
                    "detail": f"tenant {tenant}: {found.what}",
                    "code": found.code,
                    "next_step": "Keep a copy of the store, then `receipts verify` and `store "
                    "restore`.",
                },
            )
            at_us = self._rooms.clock.now_us()
            evidence = found.before._replace(at_us=at_us)
            event = Event(EventKind.CHAIN, tenant, evidence, code=found.code)
            self._hold(tenant, _Held(self._engine(tenant).see(event), place))
            known.add(place)
        del broken[place]

    async def _read_places(self, tenant: str) -> set[str]:
        found: set[str] = set()
        after = (PLACES, "")
        while rows := await self._rooms.store.watch_memories(tenant, after, PLACES_PAGE):
            found.update(row.subject for row in rows if row.detection == PLACES)
            after = (rows[-1].detection, rows[-1].subject)
            if rows[-1].detection != PLACES:
                break
        return found

    # -- committing ----------------------------------------------------------------------------

    def _engine(self, tenant: str) -> Engine:
        """One for what no receipt tells of; what it knows ends with other detections."""
        detections = self._rooms.detections()
        known = self._engines.get(tenant)
        if known is None or known[0] != detections.revision:
            known = self._engines[tenant] = (
                detections.revision,
                Engine(detections, tenant),
            )
        return known[1]

    def _hold(self, tenant: str, held: _Held) -> None:
        waiting = self._held.setdefault(tenant, deque())
        if not held.hits and not held.place:
            return
        if len(waiting) >= WAITING_MAX:
            self._rooms.counts.dropped += len(held.hits)
            return
        waiting.append(held)

    async def _commit(self, tenant: str, held: _Held) -> None:
        puts = []
        if held.place:
            state = orjson.dumps({"place": held.place}).decode()
            until_us = self._rooms.clock.now_us() + REMEMBERED_US
            puts = [WatchMemory(tenant, PLACES, held.place, 1, state, until_us)]
        if not held.hits:
            await self._rooms.store.put_rows(tenant, puts)
            return
        for _ in range(TRIES_MAX):
            if await self._rooms.raises(tenant, held.hits, puts):
                self._rooms.counts.hits += len(held.hits)
                return
            if held.place and held.place in await self._read_places(tenant):
                return  # another process told of it
        self._rooms.counts.dropped += len(held.hits)
