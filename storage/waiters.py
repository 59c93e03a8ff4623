"""Callers who wait for their commit, and the one timer that ends their patience.

Knows: futures and deadlines. Everyone is equally patient, so the oldest waiter's deadline is the
next one: a single timer serves all, and is set anew about once per deadline, not once per call.
Must not know: lanes, batches, stores.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from storage.errors import StoreError
from storage.records import Answer, Entry


class Waiter:
    """One caller of the committed lane, and the entry he waits for once it is drafted."""

    __slots__ = ("_draft", "at_ns", "entry", "future", "is_running", "tenant_id")

    #: There from `draw` on.
    entry: Entry

    def __init__(
        self,
        tenant_id: str,
        draft: Callable[[], Entry],
        future: asyncio.Future[Answer],
        at_ns: int,
    ) -> None:
        self.tenant_id = tenant_id
        self._draft = draft
        self.future = future
        self.at_ns = at_ns
        #: Taken into a batch: whatever the caller does now, the entry may become durable.
        self.is_running = False

    def draw(self) -> bool:
        """Drafts the entry; False if it cannot be drafted, which its caller is told."""
        try:
            self.entry = self._draft()
        except Exception as error:
            if not self.future.done():
                self.future.set_exception(error)
            return False
        return True

    def fail(self, error: StoreError) -> bool:
        """Tells the caller that nothing was promised; False if it knows its answer already.

        Each caller gets an error of its own: one raised by many would mix their tracebacks.
        """
        if self.future.done():
            return False
        own = type(error)(str(error))
        own.next_step = error.next_step
        own.__cause__ = error
        self.future.set_exception(own)
        return True


class Patience:
    """The waiters by age. `on_expired(waiter)` is called once for each whose time is up."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        wait_s: float,
        monotonic_ns: Callable[[], int],
        on_expired: Callable[[Waiter], None],
    ) -> None:
        self._loop = loop
        self._wait_s = wait_s
        self._wait_ns = int(wait_s * 1e9)
        self._now_ns = monotonic_ns
        self._on_expired = on_expired
        self._by_age: deque[Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, tenant_id: str, draft: Callable[[], Entry]) -> Waiter:
        """A caller begins to wait."""
        waiter = Waiter(tenant_id, draft, self._loop.create_future(), self._now_ns())
        self._by_age.append(waiter)
        if self._timer is None:
            self._timer = self._loop.call_later(self._wait_s, self._sweep)
        return waiter

    def forget_done(self) -> None:
        """Lets go of those who know their answer; called after each batch."""
        by_age = self._by_age
        while by_age and by_age[0].future.done():
            by_age.popleft()

    def oldest_age_s(self) -> float:
        """How long the oldest caller has waited; 0 if nobody waits."""
        self.forget_done()
        if not self._by_age:
            return 0.0
        return (self._now_ns() - self._by_age[0].at_ns) / 1e9

    def waiting(self) -> list[Waiter]:
        """Everyone who waits for an answer."""
        return [waiter for waiter in self._by_age if not waiter.future.done()]

    def stop(self) -> None:
        """Nobody will wait any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        self._timer = None
        now_ns = self._now_ns()
        by_age = self._by_age
        while by_age:
            waiter = by_age[0]
            if not waiter.future.done():
                left_ns = waiter.at_ns + self._wait_ns - now_ns
                if left_ns > 0:
                    # Never finer than a millisecond: a crowd that expires one by one is swept up.
                    self._timer = self._loop.call_later(max(left_ns / 1e9, 0.001), self._sweep)
                    return
                self._on_expired(waiter)
            by_age.popleft()
