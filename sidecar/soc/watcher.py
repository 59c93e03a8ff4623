"""Notices what is recorded, beside the way of calls and never in it: one task for all tenants.

Knows: how what is new comes to be known (the heads that this process committed, at every look, and
those of other processes, by polling), that each tenant gets its turn, and that whatever fails is
counted, said, and tried again after a while.
Must not know: what is looked for, how a tenant's record is read (watched).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from sidecar.soc.watched import Watched
from storage.errors import StoreError
from storage.known_heads import Seen

if TYPE_CHECKING:
    from sidecar.ledger.fence import Fence
    from sidecar.soc.beside import Beside
    from sidecar.soc.watch_rooms import Rooms

_log = logging.getLogger("aegis.soc")

#: Between looks at what is new. A look costs microseconds, so that nobody has to ring.
LOOK_S: Final = 0.2
#: How often other processes' heads are asked for.
POLL_NS: Final = 500_000_000
#: How often it is looked whether calls were refused because the store took none.
REFUSALS_NS: Final = 1_000_000_000
#: Tenants that are told of that, at most: it befell the process, and who called is not counted.
REFUSALS_TENANTS_MAX: Final = 32
#: After a failure a tenant waits so long, then twice as long, at most so long.
AGAIN_NS: Final = 250_000_000
AGAIN_MAX_NS: Final = 5_000_000_000
#: What says nothing any more is forgotten so often.
FORGET_NS: Final = 600_000_000_000
#: For the marks to be kept when the sidecar stops.
LAST_S: Final = 2.0
_NOTHING: Final = Seen(0, "")
_OURS: Final = "internal_error"

Refusals = Callable[[], Mapping[str, int]]


class _Patience:
    """When something that failed is tried again."""

    __slots__ = ("at_ns", "since_ns", "wait_ns")

    def __init__(self) -> None:
        self.at_ns = 0
        self.since_ns: int | None = None
        self.wait_ns = AGAIN_NS

    def fail(self, now_ns: int) -> None:
        """Not at once, and less soon each time."""
        if self.since_ns is None:
            self.since_ns = now_ns
        self.at_ns = now_ns + self.wait_ns
        self.wait_ns = min(AGAIN_MAX_NS, self.wait_ns * 2)

    def succeed(self) -> None:
        """The next failure is the first again."""
        self.at_ns, self.since_ns, self.wait_ns = 0, None, AGAIN_NS

    def failing_s(self, now_ns: int) -> float:
        """For how long it has failed."""
        return 0.0 if self.since_ns is None else (now_ns - self.since_ns) / 1e9


class Watcher:
    """One for a process. `refusals` gives how many calls were refused so far because of the store,
    by the code of the event that is; `is_alone` says that no other process writes to the store."""

    def __init__(
        self,
        tenants: Iterable[str],
        rooms: Rooms,
        beside: Beside,
        fence: Fence,
        *,
        refusals: Refusals,
        is_alone: bool,
    ) -> None:
        self.counts = rooms.counts
        self._rooms = rooms
        self._beside = beside
        self._fence = fence
        self._refusals = refusals
        self._is_alone = is_alone
        self._watched = [Watched(tenant, rooms, beside.broke) for tenant in tenants]
        self._patience = {one.tenant: _Patience() for one in self._watched}
        self._beside_patience = _Patience()
        self._heads: dict[str, Seen] = {}
        self._polled_ns = -POLL_NS
        self._refused = dict(refusals())
        self._looked_ns = 0
        self._forgot_ns = 0

    async def begin(self) -> None:
        """Before the first call: from here on nothing that is recorded is passed over, whatever
        happens. Without detections there is nothing to begin. Raises a StoreError."""
        if not self._rooms.detections().all:
            return
        heads = await self._rooms.store.heads_seen()
        for one in self._watched:
            await one.begin(heads.get(one.tenant, _NOTHING))

    async def run(self) -> None:
        """For ever."""
        while True:
            has_more = False
            if not self._fence.is_up and self._rooms.detections().all:
                has_more = await self._round()
            if not has_more:
                await asyncio.sleep(LOOK_S)

    async def close(self) -> None:
        """Keeps how far it has come; `run` has ended. What that needs and is not there costs the
        next start some reading. Behind a fence nothing is written."""
        if self._fence.is_up:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                for one in self._watched:
                    with contextlib.suppress(StoreError):
                        await one.end()

    def lag_s(self) -> float:
        """How old what this process is to look at is; of what it cannot, for how long not."""
        now_ns = self._rooms.clock.monotonic_ns()
        lags = [one.lag_s() for one in self._watched]
        failing = [one.failing_s(now_ns) for one in self._patience.values()]
        return max((*lags, *failing), default=0.0)

    @property
    def watching(self) -> int:
        """Tenants that this process watches now."""
        return sum(one.is_watching for one in self._watched)

    @property
    def busy_s(self) -> float:
        """What the event loop spent on it."""
        return self._rooms.share.used_ns / 1e9

    # -- one round -----------------------------------------------------------------------------

    async def _round(self) -> bool:
        """A turn for each tenant that may have something new; whether there is more."""
        heads = await self._known_heads()
        has_more = False
        for one in self._watched:
            head = heads.get(one.tenant, _NOTHING)
            if one.is_idle(head):
                continue
            now_ns = self._rooms.clock.monotonic_ns()
            if now_ns >= self._patience[one.tenant].at_ns and not self._fence.is_up:
                has_more |= await self._turn(one, head)
        await self._look_beside()
        await self._forget()
        return has_more

    async def _turn(self, one: Watched, head: Seen) -> bool:
        patience = self._patience[one.tenant]
        try:
            has_more = await one.turn(head)
        except StoreError as error:
            self._failed(patience, error.code)
            return False
        except Exception:
            # A fault of ours must not end the watching of everybody else.
            _log.exception("a tenant's record cannot be watched")
            one.drop()
            self._failed(patience, _OURS)
            return False
        patience.succeed()
        return has_more

    def _failed(self, patience: _Patience, code: str) -> None:
        self.counts.failed(code)
        patience.fail(self._rooms.clock.monotonic_ns())
        _log.debug("what is recorded cannot be watched now", extra={"cause": code})

    async def _known_heads(self) -> Mapping[str, Seen]:
        """Where the chains end, as far as this process knows."""
        known = self._rooms.store.known.all()
        if self._is_alone:
            return known
        now_ns = self._rooms.clock.monotonic_ns()
        if now_ns - self._polled_ns >= POLL_NS:
            self._polled_ns = now_ns
            try:
                self._heads = await self._rooms.store.heads_seen()
            except StoreError as error:
                self.counts.failed(error.code)
        return {
            tenant: max(seen, known.get(tenant, _NOTHING), key=lambda one: one.seq)
            for tenant, seen in {**known, **self._heads}.items()
        }

    async def _look_beside(self) -> None:
        """What no receipt tells of."""
        now_ns = self._rooms.clock.monotonic_ns()
        if now_ns - self._looked_ns >= REFUSALS_NS:
            self._looked_ns = now_ns
            refused = self._refusals()
            for code, count in refused.items():
                if count > self._refused.get(code, 0):
                    for one in self._watched[:REFUSALS_TENANTS_MAX]:
                        self._beside.refused(one.tenant, code)
            self._refused = dict(refused)
        if now_ns < self._beside_patience.at_ns:
            return
        try:
            await self._beside.turn()
        except StoreError as error:
            self._failed(self._beside_patience, error.code)
        else:
            self._beside_patience.succeed()

    async def _forget(self) -> None:
        now_ns = self._rooms.clock.monotonic_ns()
        if now_ns - self._forgot_ns < FORGET_NS:
            return
        self._forgot_ns = now_ns
        store = self._rooms.store
        try:
            at_us = await store.clock_us()
            for one in self._watched:
                await store.forget_memories(one.tenant, at_us)
        except StoreError as error:
            self.counts.failed(error.code)
