"""Delivers signed heads to one target beside everything else: bounded, with backoff, counted.

Knows: that of each chain only the newest head is worth sending, for it vouches for those before;
that a target which fails is tried again, ever less often, and for ever.
Must not know: what a target is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from sidecar.clock import Clock
from sidecar.ledger.checkpoint_targets import NotTaken, Target
from storage.errors import StoreError
from storage.tree import CheckpointRow

_log = logging.getLogger("aegis.ledger")

BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 60.0


class _Waiting(NamedTuple):
    row: CheckpointRow
    since_ns: int


class Exporter:
    """The way of heads to one target. All is done on the event loop's thread."""

    def __init__(
        self,
        target: Target,
        clock: Clock,
        keep: Callable[[CheckpointRow], Awaitable[None]],
        *,
        backoff_first_s: float = BACKOFF_FIRST_S,
    ) -> None:
        """`keep` puts a head in the store: one that has more signatures now, or a fork."""
        self._target = target
        self._clock = clock
        self._keep = keep
        self._waiting: dict[str, _Waiting] = {}
        self._has_work = asyncio.Event()
        self._backoff_first_s = backoff_first_s
        self._told = ""
        self.name = target.name
        self.delivered_total = 0
        self.failures_total: Counter[str] = Counter()

    def offer(self, row: CheckpointRow) -> None:
        """To be delivered soon, in the place of an older head of the same chain."""
        before = self._waiting.get(row.tenant_id)
        since_ns = self._clock.monotonic_ns() if before is None else before.since_ns
        self._waiting[row.tenant_id] = _Waiting(row, since_ns)
        self._has_work.set()

    def lag_s(self) -> float:
        """How long the head that waits longest has waited."""
        if not self._waiting:
            return 0.0
        since_ns = min(one.since_ns for one in self._waiting.values())
        return (self._clock.monotonic_ns() - since_ns) / 1e9

    async def run(self) -> None:
        """Delivers until cancelled."""
        backoff_s = self._backoff_first_s
        while True:
            await self._has_work.wait()
            if await self.deliver_all():
                backoff_s = self._backoff_first_s
            else:
                await asyncio.sleep(backoff_s)
                backoff_s = min(BACKOFF_MAX_S, backoff_s * 2)

    async def deliver_all(self) -> bool:
        """Tries each head that waits once; whether all were taken."""
        self._has_work.clear()
        failed = ""
        for tenant_id, waiting in list(self._waiting.items()):
            try:
                note = await self._target.deliver(waiting.row)
                if note is not None and note != waiting.row.note:
                    await self._keep(waiting.row._replace(note=note))
            except (NotTaken, StoreError) as error:
                failed = str(error)
                await self._failed(error)
                continue
            self.delivered_total += 1
            if self._waiting.get(tenant_id) == waiting:
                del self._waiting[tenant_id]
        if self._waiting:
            self._has_work.set()
        if not failed:
            self._told = ""
        return not failed

    async def close(self) -> None:
        """Whoever called `run` has ended it."""
        await self._target.close()

    async def _failed(self, error: NotTaken | StoreError) -> None:
        reason = error.reason if isinstance(error, NotTaken) else "store"
        self.failures_total[reason] += 1
        if self._told != reason:
            self._told = reason
            _log.error("a checkpoint was not taken", extra={"cause": reason, "detail": str(error)})
        evidence = error.evidence if isinstance(error, NotTaken) else None
        if evidence is not None:
            try:
                await self._keep(evidence)
            except StoreError as failure:
                _log.error("evidence of a fork was not kept", extra={"cause": failure.code})
