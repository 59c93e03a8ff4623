"""Whether calls can be served now, and if not, why.

Knows: the store commits (the queue's last word, or a probe when nothing was written lately), and
does so in time for those who wait, the policies are loaded, no fence stands, and the sidecar is not
shutting down.
Must not know: HTTP, how a probe is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from storage.errors import StoreError

if TYPE_CHECKING:
    from sidecar.ledger.fence import Fence
    from sidecar.policy_files import PolicyKeeper
    from storage.write_queue import WriteQueue

PROBE_EVERY_S: Final = 5.0
PROBE_WAIT_S: Final = 2.0
#: Not ready if for so long callers were turned away and none was served.
BEHIND_S: Final = 5.0
_FENCED: Final = "fenced: the store is being moved, or was"
_BEHIND: Final = "the store does not commit in time: every call is refused"


class Readiness:
    """Answers `reasons`; set `is_draining` when the sidecar begins to stop."""

    def __init__(
        self,
        queue: WriteQueue,
        policies: PolicyKeeper,
        *,
        probe: Callable[[], Awaitable[None]],
        monotonic_ns: Callable[[], int],
        fence: Fence | None = None,
    ) -> None:
        self._queue = queue
        self._policies = policies
        self._fence = fence
        self._probe = probe
        self._monotonic_ns = monotonic_ns
        self._probing: asyncio.Task[str] | None = None
        self._probed_ns: int | None = None
        self._probe_says = ""
        self._batches_seen = 0
        self._was_behind = False
        self.is_draining = False
        #: Why the store was of no use when `reasons` was last asked; "" if it was, or is fenced.
        self.stalled = ""

    async def reasons(self) -> list[str]:
        """Why no call should be sent here; empty if all is well."""
        reasons = []
        if self.is_draining:
            reasons.append("shutting down")
        if not hasattr(self._policies, "current"):
            reasons.append("policies are not loaded")
        # Nothing is written behind a fence, not even a probe.
        is_fenced = self._fence is not None and self._fence.is_up
        self.stalled = "" if is_fenced else await self._store_reason()
        store = _FENCED if is_fenced else self.stalled
        if store:
            reasons.append(store)
        return reasons

    async def _store_reason(self) -> str:
        counters = self._queue.counters
        if not self._queue.healthy:
            return f"the store does not commit: {counters.last_error_code}"
        if behind := await self._behind_reason():
            return behind
        if counters.batches != self._batches_seen:
            self._batches_seen = counters.batches
            self._probed_ns, self._probe_says = self._monotonic_ns(), ""
            return ""
        age_s = (
            PROBE_EVERY_S
            if self._probed_ns is None
            else (self._monotonic_ns() - self._probed_ns) / 1e9
        )
        if age_s >= PROBE_EVERY_S and not self.is_draining:
            self._probe_says = await self._probe_once()
            self._probed_ns = self._monotonic_ns()
        return self._probe_says

    async def _behind_reason(self) -> str:
        """What the queue commits is of no use to anybody if all are turned away before.

        Who is not ready gets no calls, so that nobody is turned away any more: then it is a commit
        in the time that a call has which tells that all is well again, and not the silence.
        """
        if self._queue.is_behind(BEHIND_S):
            self._was_behind = True
            return _BEHIND
        says = ""
        if self._was_behind and not self._queue.was_heard(BEHIND_S) and not self.is_draining:
            says = await self._probe_once(min(PROBE_WAIT_S, self._queue.wait_s))
        self._was_behind = bool(says)
        return says

    async def _probe_once(self, wait_s: float = PROBE_WAIT_S) -> str:
        """One probe at a time, however many ask; a probe that hangs is left to end by itself."""
        if self._probing is None or self._probing.done():
            self._probing = asyncio.ensure_future(self._probed())
        done, _ = await asyncio.wait({self._probing}, timeout=wait_s)
        return self._probing.result() if done else "the store does not answer"

    async def _probed(self) -> str:
        try:
            await self._probe()
        except StoreError as error:
            return f"the store does not commit: {error.code}"
        return ""
